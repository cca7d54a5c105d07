"""Extracts all frames of every real clip and every odd picture, and compares them with a table and a plain decode.

PIPE_SHARED=… python -m tests.trials.every_recording    all files; the suite takes the small ones
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2

from pipeline.extract.child import Outcome, Settings
from pipeline.extract.decode_all import Limits, ParallelDecoder
from pipeline.media.recordings import Recording
from runtime.clips.decode_plan import Wanted
from runtime.clips.demuxer import demuxer_of

EVERYTHING = Settings(Wanted(1, every_n_frames=1), ".jpg", 95, 200_000_000, 7200, 1)
LIMITS = Limits(300, 8 * 10**9)


@dataclass(frozen=True)
class Result:
    """The outcome of a file, and what is wrong with it."""

    path: Path
    kind: str  # frames, damaged, refused
    n_frames: int
    complaints: tuple[str, ...]


def table_of(shared: Path) -> dict[str, dict[str, str]]:
    """The rows of VIDEO_INDEX.tsv by the name of the file."""
    columns, *lines = (
        line.split("\t") for line in (shared / "data/VIDEO_INDEX.tsv").read_text(encoding="utf-8").splitlines()
    )
    return {Path(line[0]).name: dict(zip(columns, line, strict=True)) for line in lines}


def files_of(shared: Path, *, most_bytes: float = float("inf")) -> list[Path]:
    """The videos and odd pictures up to a size."""
    folders = (shared / "data" / "videos", shared / "data" / "odd_images")
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [path for path in files if path.stat().st_size <= most_bytes]


def results_of(files: Sequence[Path], table: dict[str, dict[str, str]]) -> list[Result]:
    """Extract all frames of all files, and compare them with the table and a plain decode."""
    with tempfile.TemporaryDirectory() as name:
        frames = Path(name)
        outcomes = ParallelDecoder(EVERYTHING, LIMITS, None, None).decode(
            [Recording(path, path.name, "any") for path in files], frames
        )
        results = [_result(path, outcome, frames, table) for path, outcome in zip(files, outcomes, strict=True)]
        listed = {picture.path for outcome in outcomes for picture in outcome.pictures}
        written = {path.relative_to(frames).as_posix() for path in frames.rglob("*") if path.is_file()}
        assert written == listed, written ^ listed
    return results


def _result(path: Path, outcome: Outcome, frames: Path, table: dict[str, dict[str, str]]) -> Result:
    if not outcome.pictures:
        line = outcome.error or outcome.damage
        expected = table.get(path.name, {}).get("frames_decoded", "")
        complaints = [f"refused: {line}, where {expected} frames decode"] if expected else []
        complaints += ["no single line"] if not line or "\n" in line else []
        return Result(path, "refused", 0, tuple(complaints))
    complaints = [
        f"{picture.path} is not whole"
        for picture in outcome.pictures
        if (decoded := cv2.imread(str(frames / picture.path))) is None
        or decoded.shape[:2] != (picture.height, picture.width)
    ]
    if outcome.clip:
        complaints += _against_the_table(outcome, table[path.name]) + _against_a_plain_decode(outcome, path)
    kind = "damaged" if outcome.damage else "frames"
    return Result(path, kind, len(outcome.pictures), tuple(complaints))


def _against_the_table(outcome: Outcome, row: dict[str, str]) -> list[str]:
    assert outcome.clip is not None
    counts = (len(outcome.pictures), outcome.clip["frames_found"])
    return [] if counts == 2 * (int(row["frames_decoded"]),) else [f"{counts} frames, not {row['frames_decoded']}"]


def _against_a_plain_decode(outcome: Outcome, path: Path) -> list[str]:
    """Times must be those that PyAV gives, counted from the first frame."""
    with av.open(str(path), format=demuxer_of(path), metadata_errors="ignore") as container:
        times = [frame.time for frame in container.decode(video=0)]
    if None in times:
        return []  # frames without a time are spaced evenly, and a warning reports them
    expected = [time - times[0] for time in times]
    times = [picture.time_seconds or 0.0 for picture in outcome.pictures]
    same = len(times) == len(expected) and all(abs(a - b) < 1e-6 for a, b in zip(times, expected, strict=True))
    return [] if same else ["other times than a plain decode gives"]


def main() -> None:
    """Print a line for each file that is not as it should be, and the counts."""
    shared = Path(os.environ["PIPE_SHARED"])
    results = results_of(files_of(shared), table_of(shared))
    for result in results:
        for complaint in result.complaints:
            print(f"{result.path.name}: {complaint}")
    counts = Counter(result.kind for result in results)
    print(f"{len(results)} files: {dict(counts)}, {sum(result.n_frames for result in results)} frames")
    sys.exit(any(result.complaints for result in results))


if __name__ == "__main__":
    main()
