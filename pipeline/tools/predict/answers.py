"""What `pipe predict` answers, and how it is told: lines, JSON, CSV."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.base import files
from pipeline.base.errors import DataError

NO_LABEL = "(none of the classes)"


@dataclass(frozen=True)
class Verdict:
    """What a picture, or all of a clip, shows."""

    label: str | None  # None: none of the classes
    probability: float  # of the most probable class
    probabilities: dict[str, float]  # by class; of a clip, their mean over its frames

    @property
    def said(self) -> str:
        """The label as people read it."""
        return self.label or NO_LABEL


@dataclass(frozen=True)
class FrameAnswer:
    """One frame of a clip."""

    time_seconds: float  # presentation time since the clip's first frame
    verdict: Verdict


@dataclass(frozen=True)
class Answer:
    """One photo or clip: a verdict, or the one line that says why there is none."""

    path: str  # as it was given, or as it was found in a folder
    verdict: Verdict | None
    frames: tuple[FrameAnswer, ...] = ()  # of a clip
    warnings: tuple[str, ...] = ()  # what was wrong with a clip, though it could be decoded
    error: str | None = None


def refuse_failures(answers: Sequence[Answer]) -> None:
    """Let the command end in an error where a file has no answer, once the others have been printed.

    Raises:
        DataError: the first such file's line, and how many more there are.
    """
    errors = [answer.error for answer in answers if answer.error]
    if errors:
        raise DataError(errors[0] + (f"; {len(errors) - 1} more could not be classified" if len(errors) > 1 else ""))


def as_lines(answers: Sequence[Answer]) -> list[str]:
    """For people: a line per answer, of a clip also how its frames voted and its timeline; of several, a sum."""
    lines = [line for answer in answers for line in _lines(answer)]
    if len(answers) > 1:
        said = Counter(answer.verdict.said if answer.verdict else "not classified" for answer in answers)
        lines.append(f"{len(answers)} files: " + ", ".join(f"{label} {times}" for label, times in said.most_common()))
    return lines


def _lines(answer: Answer) -> Iterator[str]:
    if answer.verdict is None:
        yield f"     -  {answer.error}"
        return
    line = f"{answer.verdict.probability:6.1%}  {answer.verdict.said}  {answer.path}"
    if answer.frames:
        votes = Counter(frame.verdict.said for frame in answer.frames)
        said = ", ".join(f"{label} {times}" for label, times in votes.most_common())
        line += f"  ({len(answer.frames)} frames: {said})"
    yield "; ".join([line, *answer.warnings])
    yield from _timeline(answer.frames)


def _timeline(frames: Sequence[FrameAnswer]) -> Iterator[str]:
    """From when to when a clip shows what: a line for frames that say the same in a row."""
    for label, together in itertools.groupby(frames, key=lambda frame: frame.verdict.said):
        times = [frame.time_seconds for frame in together]
        when = f"{times[0]:.1f} to {times[-1]:.1f}" if len(times) > 1 else f"{times[0]:.1f}"
        yield f"{when:>20} s  {label}"


def as_json(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """The answers as plain values: `path`, `verdict`, `frames`, `warnings`, `error`."""
    return [asdict(answer) for answer in answers]


def write_csv(answers: Sequence[Answer], path: Path) -> None:
    """Write one row per photo and clip, and behind each clip one per frame, which has a time.

    Columns: `path`, `time_seconds`, `n_frames`, `label`, `probability`, `p_<class>` for each class, `error`.
    """
    classes = next((list(answer.verdict.probabilities) for answer in answers if answer.verdict), [])
    columns = ["path", "time_seconds", "n_frames", "label", "probability", *(f"p_{name}" for name in classes), "error"]
    lines = [columns]
    for answer in answers:
        n_frames = str(len(answer.frames)) if answer.frames else ""
        numbers = _cells(answer.verdict) if answer.verdict else [""] * (len(classes) + 2)
        lines.append([answer.path, "", n_frames, *numbers, answer.error or ""])
        lines += [[answer.path, f"{frame.time_seconds:.6f}", "", *_cells(frame.verdict), ""] for frame in answer.frames]
    files.write_csv(path, lines)


def _cells(verdict: Verdict) -> list[str]:
    shares = [f"{share:.6f}" for share in verdict.probabilities.values()]
    return [verdict.label or "", f"{verdict.probability:.6f}", *shares]
