"""Two rows of a comparison on the same frames, paired by clip: neighbouring frames are no separate evidence."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
from scipy import stats

from pipeline.base.errors import DataError
from pipeline.evaluate.intervals import paired_bootstrap_interval
from pipeline.tools.compare.columns import Run
from pipeline.tools.compare.table import escaped

_ALPHA = 0.05
_ROUNDING = 1e-9  # shares of right frames that differ by less are the same
_COLUMNS = ("row", "against", "clips", "better", "worse", "p", "top1_difference", "low", "high")


@dataclass(frozen=True)
class Marked:
    """Which frames a row got right: the kept test frames by path, each with its clip and, over seeds, a share."""

    groups: Mapping[str, str]
    right: Mapping[str, float]


@dataclass(frozen=True)
class Pair:
    """What the second of two rows does that the first does not, on the same frames."""

    row: str
    against: str
    n_clips: int
    better: int  # clips of which `row` gets more frames right than `against`
    worse: int
    p: float  # exact sign test over the clips that differ
    top1_difference: float
    interval: list[float] | None  # 95 %, over clips; None below 30 of them


def pairs(rows: Mapping[str, Sequence[Run]]) -> tuple[list[Pair], list[str]]:
    """Every two rows that were judged on the same frames, the later against the earlier; and why others were not."""
    marked, notes = {}, []
    for row, runs in rows.items():
        try:
            marked[row] = _mark(runs)
        except DataError as error:
            notes.append(f"{escaped(row)} is in no pair: {escaped(str(error))}.")
    found = []
    for (against, first), (row, second) in itertools.combinations(marked.items(), 2):
        if first.groups == second.groups:
            found.append(_pair(row, against, first, second))
        else:
            notes.append(f"{escaped(row)} and {escaped(against)} were not judged on the same frames: no pair.")
    return found, notes


def markdown(found: Sequence[Pair]) -> Iterator[str]:
    """The lines of the section; nothing without a pair."""
    if not found:
        return
    yield from ("", "## Paired, by clip", "")
    yield "| row | against | clips | better | worse | p | top-1 | 95 % over clips |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    for pair in found:
        low_high = "" if pair.interval is None else " to ".join(f"{100 * end:+.1f}" for end in pair.interval)
        numbers = f"{pair.n_clips} | {pair.better} | {pair.worse} | {pair.p:.2g} | {100 * pair.top1_difference:+.1f}"
        yield f"| {escaped(pair.row)} | {escaped(pair.against)} | {numbers} | {low_high} |"
    yield ""
    yield (
        "- A clip (or photo) is better where the row gets more of its kept test frames right than the other, over all "
        "seeds; p is the exact sign test over the clips that differ. top-1 is the difference in points."
    )
    if len(found) > 1:
        by_chance = _ALPHA * len(found)
        yield f"- Of {len(found)} pairs that do not differ at all, about {by_chance:.1f} have a p below {_ALPHA}."


def csv_lines(found: Sequence[Pair]) -> list[Sequence[object]]:
    """The same with all digits, the header first."""
    return [_COLUMNS, *((*astuple(pair)[:-1], *(pair.interval or ("", ""))) for pair in found)]


def _mark(runs: Sequence[Run]) -> Marked:
    """The runs of one row together.

    Raises:
        DataError: a run has no predictions, or not for the same frames as the others.
    """
    tables = [_predictions(run) for run in runs]
    groups = {path: line["group"] for path, line in tables[0].items()}
    if any({path: line["group"] for path, line in table.items()} != groups for table in tables):
        raise DataError("its runs were not judged on the same frames")
    shares = {
        path: sum(table[path]["predicted"] == table[path]["label"] for table in tables) / len(tables) for path in groups
    }
    return Marked(groups, shares)


def _predictions(run: Run) -> dict[str, dict[str, str]]:
    """The kept frames of `reports/predictions.csv` by path.

    Raises:
        DataError: the run has no such file, or one without these columns.
    """
    path = run.experiment.project.predictions_csv
    # Not by `splitlines`, which ends a line at letters that a name may have, such as U+2028.
    lines = list(csv.DictReader(io.StringIO(run.experiment.text(path) or "", newline="")))
    if not lines or not {"path", "group", "label", "predicted", "kept"} <= set(lines[0]):
        raise DataError(f"{run.experiment.name} has no {run.experiment.project.relative(path)} of this version")
    return {line["path"]: line for line in lines if line["kept"] == "true"}


def _pair(row: str, against: str, first: Marked, second: Marked) -> Pair:
    paths = list(first.groups)
    names, group_of_frame = np.unique([first.groups[path] for path in paths], return_inverse=True)
    gains = np.array([second.right[path] - first.right[path] for path in paths])
    n_frames = np.bincount(group_of_frame)
    gain_of_clip = np.bincount(group_of_frame, weights=gains).astype(np.float64)
    better, worse = int((gain_of_clip > _ROUNDING).sum()), int((gain_of_clip < -_ROUNDING).sum())
    p = float(stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0
    interval = paired_bootstrap_interval(gain_of_clip, n_frames, seed=0)
    return Pair(row, against, len(names), better, worse, p, float(gains.mean()), interval)
