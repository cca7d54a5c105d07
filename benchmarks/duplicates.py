"""The cost of proposing near duplicates and groups of photos: `python benchmarks/duplicates.py [--quick] [--json]`.

The generated manifest has 1,000,000 rows in 20,000 groups (with --quick a tenth of both). Its hashes are as in clips,
whose frames differ in a few bits from one another, and 1,000 pairs across groups are planted. `growth_10x` is the time
for ten times the rows, divided by the time for the rows; the memory is the peak of the process.

Then 100,000 photos (with --quick a tenth) of 20 classes and 10 cameras are joined to groups: four of each object, half
of them by their names and half by their times. `join_recall` is the share of the objects whose photos came out as one
group and alone. Their memory is what Python allocates while it joins them.

The rows of clips propose copies among 10,000 clips (with --quick 1,000) by their fingerprints of ten seconds, in which
small pictures change smoothly; a hundredth are trimmed copies. The rows of sounds propose copies among as many clips by
the fingerprints of ten seconds of sound, and compare their bits.
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

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.base.fingerprints import SoundFingerprint
from pipeline.base.manifest import Row
from pipeline.split.grouping import merge_groups
from pipeline.split.near_duplicates.candidates import propose_by_hashes
from pipeline.split.near_duplicates.clip_copies import hashes_of_clip, propose_clips
from pipeline.split.near_duplicates.same_sound import hashes_of_sound, offset_of_sound
from pipeline.split.proposals import propose

FRAMES_PER_GROUP = 50
PLANTED = 1000
HASH_BITS = 4
PHOTOS_PER_OBJECT = 4
PICTURES_PER_CLIP = 100
TIMES_PER_SOUND = 200


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
    n_clips = n_rows // 100
    few_clips = statistics.median(_measure_clips(n_clips // 10)[0] for _ in range(3))
    many_clips, clip_recall = _measure_clips(n_clips)
    few_sounds = statistics.median(_measure_sounds(n_clips // 10)[0] for _ in range(3))
    many_sounds, sound_recall = _measure_sounds(n_clips)
    growth = {"growth_10x": large / small, "join_growth_10x": large_join / small_join}
    medians = {"propose_seconds": large, "propose_tenth_seconds": small, "join_seconds": large_join}
    medians |= {"join_tenth_seconds": small_join, "clips_seconds": many_clips, "clips_tenth_seconds": few_clips}
    medians |= {"sounds_seconds": many_sounds, "sounds_tenth_seconds": few_sounds}
    growth |= {"clips_growth_10x": many_clips / few_clips, "sounds_growth_10x": many_sounds / few_sounds}
    result = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "medians": {name: round(seconds, 2) for name, seconds in medians.items()},
        "ratios": {name: round(ratio, 2) for name, ratio in growth.items()},
        "planted_recall": recall,
        "join_recall": join_recall,
        "planted_clip_recall": clip_recall,
        "planted_sound_recall": sound_recall,
        "join_gigabytes": round(_join_bytes(n_photos) / 1e9, 2),
        "peak_gigabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    for name, value in {**result["medians"], **result["ratios"]}.items():
        print(f"{name:28} {value}")
    for name, value in result.items():
        if name.endswith(("_recall", "_gigabytes")):
            print(f"{name:28} {value}")


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


def _measure_clips(n_clips: int) -> tuple[float, float]:
    """The seconds of hashing and proposing clips, and the share of the planted copies that were proposed."""
    generator = np.random.default_rng(0)
    n_copies = max(1, n_clips // 100)
    pictures = [_small_pictures(generator) for _ in range(n_clips - n_copies)]
    originals = generator.choice(len(pictures), n_copies, replace=False).tolist()
    for original in originals:  # half a second is cut away, and coding changes the grey levels a little
        noise = generator.integers(-2, 3, pictures[original][5:].shape)
        pictures.append(np.clip(pictures[original][5:] + noise, 0, 255).astype(np.uint8))
    names = [f"{number:06d}" for number in range(n_clips)]
    started = time.perf_counter()
    hashes = {name: hashes_of_clip(of_clip) for name, of_clip in zip(names, pictures, strict=True)}
    proposed = set(propose_clips(hashes, dict(zip(names, names, strict=True))))
    seconds = time.perf_counter() - started
    copies = range(n_clips - n_copies, n_clips)
    planted = [(names[original], names[copy]) for original, copy in zip(originals, copies, strict=True)]
    return seconds, sum(pair in proposed for pair in planted) / n_copies


def _measure_sounds(n_clips: int) -> tuple[float, float]:
    """The same of clips that have sound only, of ten seconds; in copies one bit of ten is wrong."""
    generator = np.random.default_rng(0)
    n_copies = max(1, n_clips // 100)
    bits = generator.integers(0, 2**32, (n_clips - n_copies, TIMES_PER_SOUND), dtype=np.uint32)
    originals = generator.choice(len(bits), n_copies, replace=False)
    wrong = np.packbits(generator.random((n_copies, TIMES_PER_SOUND, 32)) < 0.1, axis=2).view(np.uint32)[:, :, 0]
    copies = bits[originals][:, 10:] ^ wrong[:, 10:]  # half a second is cut away
    times = np.arange(TIMES_PER_SOUND) * 50
    names = [f"{number:06d}" for number in range(n_clips)]
    sounds = {
        name: SoundFingerprint(times[: len(of_clip)], of_clip)
        for name, of_clip in zip(names, [*bits, *copies], strict=True)
    }
    started = time.perf_counter()
    hashes = {name: hashes_of_sound(sound) for name, sound in sounds.items()}
    proposed = propose_clips(hashes, dict(zip(names, names, strict=True)))
    alike = {pair for pair in proposed if offset_of_sound(sounds[pair[0]], sounds[pair[1]]) is not None}
    seconds = time.perf_counter() - started
    planted = {(names[original], name) for original, name in zip(originals, names[-n_copies:], strict=True)}
    if alike - planted:
        raise SystemExit(f"{len(alike - planted)} pairs of different sounds are called alike")
    return seconds, len(alike & planted) / n_copies


def _small_pictures(generator: np.random.Generator) -> NDArray[np.uint8]:
    """(100, 16, 16) uint8: one smooth picture becomes another."""
    first, last = (
        cv2.resize(generator.integers(0, 256, (5, 5), dtype=np.uint8), (16, 16), interpolation=cv2.INTER_CUBIC)
        for _ in range(2)
    )
    shares = np.linspace(0, 1, PICTURES_PER_CLIP)[:, None, None]
    return np.asarray(first * (1 - shares) + last * shares, np.uint8)


if __name__ == "__main__":
    main()
