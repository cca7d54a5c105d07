"""By which columns rows may be chosen, and how much the best of them shows above the truth by chance."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from pipeline.base.words import counted
from pipeline.tools.compare.best_of_rows import best_of_rows
from pipeline.tools.compare.columns import VALIDATION, StudyRun, has_side, is_of_evaluation, value_of
from pipeline.tools.compare.table import RunsByRow, escape_markdown, table_cells


def to_choose_by_first(columns: Sequence[str], runs: Iterable[StudyRun]) -> list[str]:
    """Order columns so that those that no test clip has touched come first: by them, rows may be chosen.

    These are the validation columns, which are added where a run has validation clips or folds, and the columns of
    the evaluation where folds judged every run.
    """
    listed = list(runs)
    first = [*VALIDATION] if _has_validation(listed) else []
    if listed and all(run.is_out_of_fold for run in listed):
        first += [column for column in columns if is_of_evaluation(column)]
    return [*first, *(column for column in columns if column not in first)]


def choosing_notes(rows: RunsByRow, columns: Sequence[str], n_judged: Counter[str]) -> Iterator[str]:
    """Say by which columns rows may be chosen, and how much the best row shows above the truth by chance.

    Args:
        rows: the runs of each row that has run.
        columns: of the table.
        n_judged: how many runs in the repository the same clips have judged, by the digest of the clips.
    """
    runs = [run for of_row in rows.values() for run in of_row]
    if all(run.is_out_of_fold for run in runs):
        yield "- Folds judged every row: no head has seen the clips that it judges, and no clip is kept for a test."
    elif _has_validation(runs):
        yield "- Choose a row by val_accuracy and val_loss. Whoever chooses by another column trains on the test clips."
    else:
        yield "- No row has validation clips or folds. Whoever chooses a row by this table trains on the test clips."
    if any(has_side(column) for column in columns) and "test" in _sides_of_best(runs):
        yield (
            "- best_accuracy and best_epoch with (test): the best epoch was looked up on the test clips, so the number "
            "flatters. Neither report it nor choose by it."
        )
    digests = dict.fromkeys(run.clips_digest for run in runs)
    for digest in digests:
        of_clips = {row: [run for run in of_row if run.clips_digest == digest] for row, of_row in rows.items()}
        judged = {row: of_row for row, of_row in of_clips.items() if of_row}
        which = "" if len(digests) == 1 else f"{', '.join(map(escape_markdown, judged))}: "
        yield from (f"- {which}{note}" for note in _chance_notes(judged, digest, n_judged))


def _chance_notes(rows: RunsByRow, digest: str | None, n_judged: Counter[str]) -> Iterator[str]:
    """Notes on rows that the same clips judged: how many runs there were, and what the best of them shows by chance."""
    runs = [run for of_row in rows.values() for run in of_row]
    if digest is None:
        yield "Without reports/predictions.csv nobody can tell how many runs the same test clips have judged."
        return
    n_runs = max(n_judged[digest], len(runs))
    clips = "clips" if all(run.is_out_of_fold for run in runs) else "test clips"
    yield (
        f"These {clips} have judged at least {counted(n_runs, 'run')}, {len(runs)} of them in this table: so many are "
        "in the commits and experiments of this repository. Runs that were not kept cannot be counted."
    )
    means = [of_row["group_top1"].mean for of_row in table_cells(rows, ["group_top1"]).values()]
    shares = [mean for mean in means if isinstance(mean, float)]
    n_clips = runs[0].evaluation.get("n_groups") or 0
    if len(shares) > 1 and n_clips and 0 < (share := statistics.fmean(shares)) < 1:
        of_all = best_of_rows(n_runs, n_clips, share).expected_share
        more = f" The best of all {n_runs} runs would show {100 * of_all:.1f} %." if n_runs > len(shares) else ""
        yield f"{best_of_rows(len(shares), n_clips, share).sentence}.{more} Rows that err on the same clips gain less."


def _has_validation(runs: Iterable[StudyRun]) -> bool:
    """Whether a run has validation clips or folds."""
    return any(run.kept.get("val") for run in runs)


def _sides_of_best(runs: Iterable[StudyRun]) -> set[str | None]:
    """The sides whose curves the best epochs of some runs are taken from."""
    return {value_of("best_accuracy", run).side for run in runs}
