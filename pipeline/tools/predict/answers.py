"""The answers of `pipe predict`, and their three forms: lines for people, JSON, CSV."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.base.errors import DataError
from pipeline.base.storage import csv_files
from pipeline.base.words import counted

NO_LABEL = "(none of the classes)"


@dataclass(frozen=True)
class Classification:
    """The class of a photo, of a frame, or of a whole clip."""

    label: str | None  # None: none of the classes
    probability: float  # of the most probable class
    probabilities: dict[str, float]  # by class; of a clip, their mean over its frames

    @property
    def label_text(self) -> str:
        """The label as people read it."""
        return self.label or NO_LABEL


@dataclass(frozen=True)
class FrameAnswer:
    """The answer for one frame of a clip."""

    time_seconds: float  # presentation time since the clip's first frame
    verdict: Classification


@dataclass(frozen=True)
class Answer:
    """The answer for one photo or clip: its verdict, or the error line that says why there is none."""

    path: str  # as it was given, or as it was found in a folder
    verdict: Classification | None
    frames: tuple[FrameAnswer, ...] = ()  # of a clip
    warnings: tuple[str, ...] = ()  # damage of a clip that could be decoded nevertheless
    error: str | None = None


def refuse_failures(answers: Sequence[Answer]) -> None:
    """Raise an error if a file could not be classified. To be called after the answers have been printed.

    Raises:
        DataError: the error line of the first such file, and how many more there are.
    """
    errors = [answer.error for answer in answers if answer.error]
    if errors:
        raise DataError(errors[0] + (f"; {len(errors) - 1} more could not be classified" if len(errors) > 1 else ""))


def to_lines(answers: Sequence[Answer]) -> list[str]:
    """Write the answers for people.

    A file has one line. A clip's line counts its frames by label, and its timeline follows. Several files have a
    line at the end that counts the files by label.
    """
    lines = [line for answer in answers for line in _lines(answer)]
    if len(answers) > 1:
        labels = Counter(answer.verdict.label_text if answer.verdict else "not classified" for answer in answers)
        lines.append(f"{counted(len(answers), 'file')}: {_counts(labels)}")
    return lines


def _lines(answer: Answer) -> Iterator[str]:
    if answer.verdict is None:
        yield f"     -  {answer.error}"
        return
    line = f"{answer.verdict.probability:6.1%}  {answer.verdict.label_text}  {answer.path}"
    if answer.frames:
        votes = Counter(frame.verdict.label_text for frame in answer.frames)
        line += f"  ({counted(len(answer.frames), 'frame')}: {_counts(votes)})"
    yield "; ".join([line, *answer.warnings])
    yield from _timeline(answer.frames)


def _counts(labels: Counter[str]) -> str:
    return ", ".join(f"{label} {times}" for label, times in labels.most_common())


def _timeline(frames: Sequence[FrameAnswer]) -> Iterator[str]:
    """One line for each run of frames with the same label: from when to when, and the label."""
    for label, run in itertools.groupby(frames, key=lambda frame: frame.verdict.label_text):
        times = [frame.time_seconds for frame in run]
        when = f"{times[0]:.1f} to {times[-1]:.1f}" if len(times) > 1 else f"{times[0]:.1f}"
        yield f"{when:>20} s  {label}"


def to_json(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Give the answers as plain values: `path`, `verdict`, `frames`, `warnings`, `error`."""
    return [asdict(answer) for answer in answers]


def write_csv(answers: Sequence[Answer], path: Path) -> None:
    """Write one row per photo and per clip. The rows of a clip's frames, which have a time, follow the clip's row.

    Columns: `path`, `time_seconds`, `n_frames`, `label`, `probability`, `p_<class>` for each class, `error`.
    """
    classes = next((list(answer.verdict.probabilities) for answer in answers if answer.verdict), [])
    columns = ["path", "time_seconds", "n_frames", "label", "probability", *(f"p_{name}" for name in classes), "error"]
    lines = [columns]
    for answer in answers:
        n_frames = str(len(answer.frames)) if answer.frames else ""
        fields = _csv_fields(answer.verdict) if answer.verdict else [""] * (len(classes) + 2)
        lines.append([answer.path, "", n_frames, *fields, answer.error or ""])
        lines += [
            [answer.path, f"{frame.time_seconds:.6f}", "", *_csv_fields(frame.verdict), ""] for frame in answer.frames
        ]
    csv_files.write_csv(path, lines)


def _csv_fields(verdict: Classification) -> list[str]:
    probabilities = [f"{probability:.6f}" for probability in verdict.probabilities.values()]
    return [verdict.label or "", f"{verdict.probability:.6f}", *probabilities]
