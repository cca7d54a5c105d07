"""Pairs of rows on the same test frames, compared clip by clip: frames of one clip are not independent evidence."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
from scipy import stats

from pipeline.base.errors import DataError
from pipeline.base.storage.csv_files import table_rows
from pipeline.evaluate.intervals import paired_bootstrap_interval
from pipeline.tools.compare.columns import StudyRun
from pipeline.tools.compare.table import escape_markdown

_ALPHA = 0.05
_ROUNDING = 1e-9  # shares of right frames that differ by less are equal
_COLUMNS = ("row", "against", "clips", "better", "worse", "p", "p_holm", "top1_difference", "low", "high")
_OF_FRAME = {"path", "group", "label", "predicted", "kept"}  # columns of reports/predictions.csv
HEADINGS = ("row", "against", "clips", "better", "worse", "p", "p (Holm)", "top-1", "95 % over clips")


@dataclass(frozen=True)
class FrameScores:
    """How often the runs of a row got each kept test frame right."""

    groups: Mapping[str, str]  # the clip or photo of each frame, by the frame's path
    right: Mapping[str, float]  # the share of the row's runs that are right, by the frame's path
    is_out_of_fold: bool  # whether folds judged every frame of every run

    def of(self, paths: Sequence[str]) -> FrameScores:
        """The scores of some frames."""
        groups, right = {path: self.groups[path] for path in paths}, {path: self.right[path] for path in paths}
        return FrameScores(groups, right, self.is_out_of_fold)


@dataclass(frozen=True)
class RunPair:
    """The runs of a row against those of an earlier row, on the same frames."""

    row: str
    against: str
    n_clips: int
    better: int  # clips of which `row` gets more frames right than `against`
    worse: int
    p: float  # exact sign test over the clips that differ
    p_holm: float  # the same, adjusted for the number of pairs on the page
    top1_difference: float
    interval: list[float] | None  # 95 %, over clips; None below 30 of them


def pair_rows(rows: Mapping[str, Sequence[StudyRun]]) -> tuple[list[RunPair], list[str]]:
    """Compare every two rows, the later against the earlier, on the frames that both judged.

    Where folds judged both, these are the frames of the clips that both have whole. Else all frames must be the same.

    Returns:
        The pairs, and one note for each row or pair of rows that could not be compared.
    """
    scores_of, notes = {}, []
    for row, runs in rows.items():
        try:
            scores_of[row] = _score_frames(runs)
        except DataError as error:
            notes.append(f"{escape_markdown(row)} is in no pair: {escape_markdown(str(error))}.")
    pairs = []
    for (against, first), (row, second) in itertools.combinations(scores_of.items(), 2):
        common = _common_frames(first, second)
        if common:
            pairs.append(_compare(row, against, first.of(common), second.of(common)))
        else:
            both = f"{escape_markdown(row)} and {escape_markdown(against)}"
            notes.append(f"{both} were not judged on the same frames: no pair.")
    adjusted = holm([pair.p for pair in pairs])
    return [replace(pair, p_holm=p_holm) for pair, p_holm in zip(pairs, adjusted, strict=True)], notes


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for their number, so that any false one is below 0.05 in at most 5 of 100 tables.

    S. Holm: A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6 (1979),
    65-70. The smallest of n values is multiplied by n, the next by n - 1, and so on; none may fall below one before it.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    capped: list[float] = np.minimum(adjusted, 1.0).tolist()
    return capped


def _common_frames(first: FrameScores, second: FrameScores) -> list[str]:
    """The frames that two rows are compared on; none where they were judged on different ones."""
    if first.groups == second.groups:
        return list(first.groups)
    if not (first.is_out_of_fold and second.is_out_of_fold):
        return []
    differing = first.groups.items() ^ second.groups.items()
    cut = {group for _, group in differing}  # a clip of which one row has other frames
    return [path for path, group in first.groups.items() if group not in cut]


def pairs_markdown(pairs: Sequence[RunPair]) -> Iterator[str]:
    """Write the section of the pairs, line by line; no line where there is no pair."""
    if not pairs:
        return
    yield from ("", "## Paired, by clip", "")
    yield f"| {' | '.join(HEADINGS)} |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|"
    for pair in pairs:
        yield f"| {' | '.join(escape_markdown(text) for text in pair_texts(pair))} |"
    yield ""
    yield (
        "- A clip (or photo) counts as better where the row gets more of its kept test frames right than the other "
        "row, over all seeds. p is the exact sign test over the clips that differ. top-1 is the difference in points. "
        "Rows that folds judged are compared on the clips that both have."
    )
    if len(pairs) > 1:
        by_chance = _ALPHA * len(pairs)
        yield (
            f"- If no pair differed, about {by_chance:.1f} of {len(pairs)} pairs would still have a p below {_ALPHA}. "
            f"p (Holm) is adjusted for the {len(pairs)} pairs: then any of them would be below {_ALPHA} in at most "
            f"{100 * _ALPHA:.0f} of 100 tables. Judge by p (Holm)."
        )


def pair_texts(pair: RunPair) -> list[str]:
    """The fields of a pair as people read them, in the order of `HEADINGS`."""
    low_high = "" if pair.interval is None else " to ".join(f"{100 * end:+.1f}" for end in pair.interval)
    counts = [str(count) for count in (pair.n_clips, pair.better, pair.worse)]
    return [
        pair.row, pair.against, *counts, f"{pair.p:.2g}", f"{pair.p_holm:.2g}", f"{100 * pair.top1_difference:+.1f}",
        low_high,
    ]  # fmt: skip


def pairs_csv_rows(pairs: Sequence[RunPair]) -> list[Sequence[object]]:
    """The pairs with all digits, the header first."""
    return [_COLUMNS, *((*astuple(pair)[:-1], *(pair.interval or ("", ""))) for pair in pairs)]


def _score_frames(runs: Sequence[StudyRun]) -> FrameScores:
    """Take the runs of one row together.

    Raises:
        DataError: a run has no predictions, or its frames are not those of the other runs.
    """
    tables = [_predictions(run) for run in runs]
    groups = {path: line["group"] for path, line in tables[0].items()}
    if any({path: line["group"] for path, line in table.items()} != groups for table in tables):
        raise DataError("its runs were not judged on the same frames")
    shares = {
        path: sum(table[path]["predicted"] == table[path]["label"] for table in tables) / len(tables) for path in groups
    }
    return FrameScores(groups, shares, all(run.is_out_of_fold for run in runs))


def _predictions(run: StudyRun) -> dict[str, dict[str, str]]:
    """The kept frames of `reports/predictions.csv` by path.

    Raises:
        DataError: the run has no such file, or the file lacks a column or is broken.
    """
    path = run.experiment.project.predictions_csv
    # Not by `splitlines`, which ends a line at letters that a name may have, such as U+2028.
    try:
        lines = list(table_rows(io.StringIO(run.predictions or "", newline="")))
    except csv.Error:
        lines = []
    if not lines or not all(line.keys() >= _OF_FRAME for line in lines):
        raise DataError(f"{run.experiment.name} has no {run.experiment.project.relative(path)} of this version")
    return {line["path"]: line for line in lines if line["kept"] == "true"}


def _compare(row: str, against: str, first: FrameScores, second: FrameScores) -> RunPair:
    """Compare `row`, whose scores are `second`, with `against`, whose scores are `first`."""
    paths = list(first.groups)
    clips, clip_of_frame = np.unique([first.groups[path] for path in paths], return_inverse=True)
    gains = np.array([second.right[path] - first.right[path] for path in paths])
    n_frames = np.bincount(clip_of_frame)
    gain_of_clip = np.bincount(clip_of_frame, weights=gains).astype(np.float64)
    better, worse = int((gain_of_clip > _ROUNDING).sum()), int((gain_of_clip < -_ROUNDING).sum())
    p = float(stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0
    interval = paired_bootstrap_interval(gain_of_clip, n_frames, seed=0)
    return RunPair(row, against, len(clips), better, worse, p, p, float(gains.mean()), interval)
