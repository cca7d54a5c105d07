"""The cost of proposing near duplicates and groups of photos: `python benchmarks/duplicates.py [--quick] [--json]`.

The generated manifest has 1,000,000 rows in 20,000 groups (with --quick a tenth of both). Its hashes are as in clips,
whose frames differ in a few bits from one another, and 1,000 pairs across groups are planted. `growth_10x` is the time
for ten times the rows, divided by the time for the rows; the memory is the peak of the process.

Then 100,000 photos (with --quick a tenth) of 20 classes and 10 cameras are joined to groups: four of each object, half
of them by their names and half by their times. `join_recall` is the share of the objects whose photos came out as one
group and alone. Their memory is what Python allocates while it joins them.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import time
import tracemalloc
from collections import defaultdict
from datetime import datetime, timedelta

import numpy as np

from pipeline.base.manifest import Row
from pipeline.split.grouping import merge_groups
from pipeline.split.near_duplicates.candidates import propose_by_hashes
from pipeline.split.proposals import propose

FRAMES_PER_GROUP = 50
PLANTED = 1000
HASH_BITS = 4
PHOTOS_PER_OBJECT = 4


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
    n_photos = n_rows // 10
    small_join = statistics.median(_measure_joining(n_photos // 10)[0] for _ in range(3))
    large_join, join_recall = _measure_joining(n_photos)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "medians": {"propose_seconds": round(large, 2), "propose_tenth_seconds": round(small, 2)}
        | {"join_seconds": round(large_join, 2), "join_tenth_seconds": round(small_join, 2)},
        "ratios": {"growth_10x": round(large / small, 2), "join_growth_10x": round(large_join / small_join, 2)},
        "planted_recall": recall,
        "join_recall": join_recall,
        "join_gigabytes": round(_join_bytes(n_photos) / 1e9, 2),
        "peak_gigabytes": round(peak / 1e6, 2),
    }
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    for name, value in {**result["medians"], **result["ratios"]}.items():
        print(f"{name:28} {value}")
    for name in ("planted_recall", "join_recall", "join_gigabytes", "peak_gigabytes"):
        print(f"{name:28} {result[name]}")


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


def _photos(n_photos: int) -> list[Row]:
    """Photos of objects, whose group is not known: even objects are told by names, odd ones by times."""
    rows = []
    for number in range(n_photos):
        thing, shot = divmod(number, PHOTOS_PER_OBJECT)
        label, camera = f"class{thing % 20:02}", f"Maker Model #{thing % 200 // 20}"
        name = f"object{thing}_{shot}" if thing % 2 == 0 else f"IMG_{number:05}"
        taken = datetime(2024, 1, 1) + timedelta(seconds=60 * thing + 2 * shot)
        source = f"data/raw/{label}/{name}.jpg"
        recorded_at = "" if thing % 2 == 0 else taken.isoformat()
        rows.append(Row(f"{number:07}.jpg", label, source, "", source, recorded_at=recorded_at, camera=camera))
    return rows


def _measure_joining(n_photos: int) -> tuple[float, float]:
    """The processor's seconds of proposing groups, and the share of the objects that came out as a group."""
    rows = _photos(n_photos)
    started = time.process_time()  # one thread, whatever else runs here
    links = propose(rows, frozenset(), photos=True, within_given=False).links
    seconds = time.process_time() - started
    merged, _ = merge_groups(rows, links=links)
    groups: dict[str, list[int]] = defaultdict(list)
    for row in merged:
        groups[row.group].append(int(row.path[:7]) // PHOTOS_PER_OBJECT)
    whole = sum(len(things) == PHOTOS_PER_OBJECT and len(set(things)) == 1 for things in groups.values())
    return seconds, whole / (n_photos // PHOTOS_PER_OBJECT)


def _join_bytes(n_photos: int) -> int:
    rows = _photos(n_photos)
    tracemalloc.start()
    propose(rows, frozenset(), photos=True, within_given=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


if __name__ == "__main__":
    main()
