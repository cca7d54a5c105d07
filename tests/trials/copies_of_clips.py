"""Looks for copies among all real clips, and for nine planted copies of each that is long enough.

PIPE_SHARED=… python -m tests.trials.copies_of_clips    exits 1 if different clips are called one, or a copy is missed
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import av

from pipeline.base.fingerprints import Fingerprint
from pipeline.split.near_duplicates.clip_copies import ClipCopy, confirm, hashes_of_clip, propose_clips
from runtime.clips.signatures import CLIP_SUFFIXES
from runtime.errors import ClipError
from tests.support.moving_clips import Copy, Picture, fingerprint_of, write_copy

COPIES = (
    Copy(0.2), Copy(0.4, size=(160, 120)), Copy(0.6, mirrored=True), Copy(0.8, every=2), Copy(1.0, every=3),
    Copy(1.2, bitrate=80_000), Copy(1.4, size=(320, 240), every=2),
    Copy(1.6, mirrored=True, size=(160, 120)), Copy(1.9),
)  # fmt: skip
LEAST_SECONDS = 4.0  # of a clip whose copies are planted: less is left of it than a second otherwise
# Files that show one recording: renditions of one test picture, and faults planted into one drawn clip.
RECORDINGS = (("testsrc2", "bt601_full_range"), ("/data/faults/v",))


def fingerprints_of(files: Sequence[Path]) -> dict[Path, Fingerprint]:
    """The fingerprints of the clips that can be decoded."""
    made = {}
    for path in files:
        try:
            fingerprint = fingerprint_of(path)
        except ClipError:
            continue
        if len(fingerprint.pictures):
            made[path] = fingerprint
    return made


def show_one_recording(first: Path, second: Path) -> bool:
    """Whether the two files are known to show the same."""
    return any(all(any(part in path.as_posix() for part in names) for path in (first, second)) for names in RECORDINGS)


def copies_among(fingerprints: Mapping[Path, Fingerprint]) -> list[ClipCopy]:
    """What is confirmed when every clip is compared with every other, whatever the hashes propose."""
    pairs = itertools.combinations(sorted(fingerprints), 2)
    found = (confirm((str(a), str(b)), fingerprints[a], fingerprints[b]) for a, b in pairs)
    return [copy for copy in found if copy is not None]


def planted_and_found(path: Path, fingerprints: Mapping[Path, Fingerprint], folder: Path) -> list[bool]:
    """For each planted copy of a real clip whether it is proposed among all real clips, and confirmed."""
    frames = _frames_of(path)
    copies = {
        f"copy {number}": fingerprint_of(write_copy(frames, folder / f"{number}.mp4", copy))
        for number, copy in enumerate(COPIES)
    }
    everything = {str(name): fingerprint for name, fingerprint in fingerprints.items()} | copies
    hashes = {name: hashes_of_clip(fingerprint.pictures) for name, fingerprint in everything.items()}
    # The copies are one group, so that they do not take one another's places.
    proposed = propose_clips(hashes, {name: "copies" if name in copies else name for name in everything})
    return [
        (str(path), name) in proposed + [(b, a) for a, b in proposed]
        and confirm((str(path), name), fingerprints[path], copy) is not None
        for name, copy in copies.items()
    ]


def _frames_of(path: Path) -> list[Picture]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def main() -> None:
    """Run both parts and print a line for each clip."""
    shared = Path(os.environ["PIPE_SHARED"]) / "data"
    files = sorted(path for path in shared.rglob("*") if path.suffix.lower() in CLIP_SUFFIXES)
    fingerprints = fingerprints_of(files)
    found = copies_among(fingerprints)
    wrong = [copy for copy in found if not show_one_recording(Path(copy.sources[0]), Path(copy.sources[1]))]
    n_pairs = len(fingerprints) * (len(fingerprints) - 1) // 2
    print(f"{len(fingerprints)} clips, {n_pairs} pairs: {len(found)} are one recording, {len(wrong)} of them wrongly")
    for copy in wrong:
        print("WRONG", copy)
    missed = 0
    for path in sorted((shared / "clips").rglob("*")):
        if path not in fingerprints or fingerprints[path].milliseconds[-1] < LEAST_SECONDS * 1000:
            continue
        with tempfile.TemporaryDirectory() as folder:
            results = planted_and_found(path, fingerprints, Path(folder))
        missed += results.count(False)
        numbers = ", ".join(str(number) for number, is_found in enumerate(results) if not is_found) or "none"
        print(f"{path.name}: {sum(results)} of {len(results)} copies found, missed: {numbers}")
    sys.exit(bool(wrong or missed))


if __name__ == "__main__":
    main()
