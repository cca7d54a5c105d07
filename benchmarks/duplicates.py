"""The cost of proposing near duplicates: `python benchmarks/duplicates.py [--quick] [--json]`.

The generated manifest has 1,000,000 rows in 20,000 groups (with --quick a tenth of both). Its hashes are as in clips,
whose frames differ in a few bits from one another, and 1,000 pairs across groups are planted. `growth_10x` is the time
for ten times the rows, divided by the time for the rows; the memory is the peak of the process.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import time

import numpy as np

from pipeline.base.manifest import Row
from pipeline.split.near_duplicates.candidates import propose_by_hashes

FRAMES_PER_GROUP = 50
PLANTED = 1000
HASH_BITS = 4


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100,000 rows instead of 1,000,000")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    n_rows = 100_000 if arguments.quick else 1_000_000
    # The small manifest takes a second, which a busy machine can double: the median of three is taken.
    small = statistics.median(_measure(n_rows // 10)[0] for _ in range(3))
    large, recall = _measure(n_rows)
    result = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "medians": {"propose_seconds": round(large, 2), "propose_tenth_seconds": round(small, 2)},
        "ratios": {"growth_10x": round(large / small, 2)},
        "planted_recall": recall,
        "peak_gigabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    for name, value in {**result["medians"], **result["ratios"]}.items():
        print(f"{name:28} {value}")
    print(f"{'planted_recall':28} {recall}")
    print(f"{'peak_gigabytes':28} {result['peak_gigabytes']}")


def _measure(n_rows: int) -> tuple[float, float]:
    """The seconds of proposing, and the share of the planted pairs that were proposed."""
    generator = np.random.default_rng(0)
    hashes = np.repeat(generator.integers(0, 2**64, n_rows // FRAMES_PER_GROUP, dtype=np.uint64), FRAMES_PER_GROUP)
    for _ in range(4):
        hashes ^= np.uint64(1) << generator.integers(0, 64, n_rows).astype(np.uint64)
    chosen = generator.choice(n_rows // FRAMES_PER_GROUP, 2 * PLANTED // (1_000_000 // n_rows), replace=False)
    originals, copies = chosen.reshape(2, -1) * FRAMES_PER_GROUP
    hashes[copies] = hashes[originals] ^ np.uint64(0b1001)
    rows = [
        Row(f"{i:07d}.jpg", "a", "", "", f"clip{i // FRAMES_PER_GROUP:05d}", phash=f"{value:016x}")
        for i, value in enumerate(hashes.tolist())
    ]
    started = time.perf_counter()
    pairs = {(pair.first, pair.second) for pair in propose_by_hashes(rows, HASH_BITS)}
    seconds = time.perf_counter() - started
    planted = list(zip(np.minimum(originals, copies), np.maximum(originals, copies), strict=True))
    return seconds, sum(pair in pairs for pair in planted) / len(planted)


if __name__ == "__main__":
    main()
