"""Looks for copies among all real clips, and for nine planted copies of each that is long enough.

Clips with sound are copied once more, cropped and worse encoded. It counts what their pictures propose alone, and what
they propose together with their sound. Each also gets the sound of the next one, as if one song played in both.

PIPE_SHARED=… python -m tests.trials.copies_of_clips    exits 1 if different clips are called one, or a copy is missed
                                        --sound         only the clips with sound; exits 1 for different clips alone
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import av
import cv2
import numpy as np

from pipeline.base.fingerprints import SOUND, Fingerprint, SoundFingerprint, fingerprint_path
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.extract.sound import sound_fingerprint
from pipeline.split.near_duplicates.clip_copies import (
    ClipCopy,
    confirm,
    find_clip_copies,
    hashes_of_clip,
    propose_clips,
)
from pipeline.split.near_duplicates.same_sound import offset_of_sound
from runtime.clips.signatures import CLIP_SUFFIXES
from runtime.errors import ClipError
from tests.support.moving_clips import Copy, Picture, fingerprint_of, write_copy
from tests.support.sounds import RATE, Sound, Track, later, with_sound

COPIES = (
    Copy(0.2), Copy(0.4, size=(160, 120)), Copy(0.6, mirrored=True), Copy(0.8, every=2), Copy(1.0, every=3),
    Copy(1.2, bitrate=80_000), Copy(1.4, size=(320, 240), every=2),
    Copy(1.6, mirrored=True, size=(160, 120)), Copy(1.9),
)  # fmt: skip
# Share of each side that is kept, and where it lies: 0 at the left and upper edge, 1 at the right and lower one.
CROPS = (
    (Copy(0.3), 1.0, 0.5), (Copy(0.3, bitrate=25_000), 1.0, 0.5), (Copy(0.5), 0.95, 0.5), (Copy(0.7), 0.9, 0.5),
    (Copy(0.9, mirrored=True), 0.9, 0.5), (Copy(1.1), 0.9, 0.0), (Copy(1.3), 0.8, 0.5), (Copy(1.5), 0.7, 0.7),
)  # fmt: skip
SPOKEN = Track(bitrate=48_000)  # how the sound of a copy is encoded
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


Known = tuple[Fingerprint, SoundFingerprint | None]


def cropped_and_found(path: Path, others: Mapping[Path, Known], folder: Path, *, sounds: bool) -> list[bool]:
    """For each cropped copy of a clip whether the search finds it among all clips with sound, and nothing wrong."""
    project = Project(folder)
    rows = [_stored(project, str(number), known, sounds=sounds) for number, known in enumerate(others.values())]
    original = rows[list(others).index(path)].source
    frames, sound = _frames_at_25(path), _sound_of(path)
    found = []
    for number, (copy, kept, position) in enumerate(CROPS):
        silent = write_copy([_cropped(frame, kept, position) for frame in frames], folder / f"{number}.mp4", copy)
        known = _known(with_sound(silent, folder / f"with_{number}.mp4", later(sound, copy.skipped_seconds), SPOKEN))
        row = _stored(project, f"copy{number}", known, sounds=sounds)
        pairs = [set(copy.sources) for copy in find_clip_copies([*rows, row], project).copies]
        wrong = [pair for pair in pairs if pair != {original, row.source}]
        if wrong:
            print("WRONG", path.name, wrong)
            sys.exit(1)
        found.append(bool(pairs))
    return found


def called_one_for_their_sound(clips: Mapping[Path, Known], folder: Path) -> list[ClipCopy]:
    """What is called a copy where each clip has the sound of the next one as well as its own."""
    project, rows = Project(folder), []
    known = list(clips.values())
    for number, (pictures, _) in enumerate(known):
        rows.append(_stored(project, f"{number}", known[number]))
        rows.append(_stored(project, f"{number}_foreign", (pictures, known[(number + 1) % len(known)][1])))
    same = {frozenset((rows[at].source, rows[at + 1].source)) for at in range(0, len(rows), 2)}
    return [copy for copy in find_clip_copies(rows, project).copies if frozenset(copy.sources) not in same]


def _known(path: Path) -> Known:
    return fingerprint_of(path), sound_fingerprint(path)


def _stored(project: Project, name: str, known: Known, *, sounds: bool = True) -> Row:
    """The row of a clip whose fingerprints are written."""
    source = f"data/raw/a/{name}.mp4"
    path = fingerprint_path(source, project)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(known[0].to_bytes())
    if sounds and known[1] is not None:
        fingerprint_path(source, project, SOUND).write_bytes(known[1].to_bytes())
    return Row(f"data/frames/a/{name}.mp4/0.jpg", "a", source, name, source, time_seconds=0.0)


def _cropped(picture: Picture, kept: float, position: float) -> Picture:
    height, width = picture.shape[:2]
    top, left = (round(position * (1 - kept) * side) for side in (height, width))
    return picture[top : top + round(kept * height), left : left + round(kept * width)]


def _sound_of(path: Path) -> Sound:
    resampler = av.AudioResampler("fltp", "mono", RATE)
    with av.open(str(path)) as container:
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    return np.concatenate([part.to_ndarray() for part in [*frames, *resampler.resample(None)]], axis=1)


def _frames_of(path: Path) -> list[Picture]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def _frames_at_25(path: Path) -> list[Picture]:
    """The frames of a clip in a small size, 25 a second whatever its own rate, so that they keep up with the sound."""
    with av.open(str(path)) as container:
        timed = [
            (frame.time or 0.0, cv2.resize(frame.to_ndarray(format="bgr24"), (480, 270)))
            for frame in container.decode(video=0)
        ]
    times = np.array([time - timed[0][0] for time, _ in timed])
    return [timed[int(np.abs(times - at).argmin())][1] for at in np.arange(0, times[-1], 1 / 25)]


def _compare_sounding(fingerprints: Mapping[Path, Fingerprint]) -> int:
    """Print the part with sound; the number of different clips that were called one."""
    sounds = {path: sound_fingerprint(path) for path in fingerprints}
    heard = {path: sound for path, sound in sounds.items() if sound is not None}
    pairs = list(itertools.combinations(heard.items(), 2))
    alike = [(a.name, b.name) for (a, first), (b, second) in pairs if offset_of_sound(first, second) is not None]
    print(f"{len(heard)} clips with sound, {len(pairs)} pairs: {len(alike)} sound alike {alike}")
    long = {
        path: (fingerprints[path], sound)
        for path, sound in heard.items()
        if min(fingerprints[path].milliseconds[-1], sound.milliseconds[-1]) >= LEAST_SECONDS * 1000
    }
    with tempfile.TemporaryDirectory() as folder:
        wrong = called_one_for_their_sound(long, Path(folder))
    print(f"{len(long)} clips with the sound of another one: {len(wrong)} called copies of a clip that is another")
    for path in long:
        for with_sounds in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                results = cropped_and_found(path, long, Path(folder), sounds=with_sounds)
            kinds = "pictures and sound" if with_sounds else "pictures alone"
            missed = ", ".join(str(number) for number, is_found in enumerate(results) if not is_found) or "none"
            print(f"{path.name}, {kinds}: {sum(results)} of {len(results)} copies found, missed: {missed}")
    return len(wrong)


def main() -> None:
    """Run both parts and print a line for each clip."""
    shared = Path(os.environ.get("PIPE_SHARED", "../shared")) / "data"
    files = sorted(path for path in shared.rglob("*") if path.suffix.lower() in CLIP_SUFFIXES)
    fingerprints = fingerprints_of(files)
    n_wrong = _compare_sounding(fingerprints)
    if "--sound" in sys.argv:
        sys.exit(bool(n_wrong))
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
    sys.exit(bool(n_wrong or wrong or missed))


if __name__ == "__main__":
    main()
