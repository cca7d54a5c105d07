"""What must be said beside a comparison: on what the numbers were measured, and which must not be ranked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.columns import Run, hangs_on_training_loss, in_words
from pipeline.compare_table import escaped
from pipeline.experiments import digest_of

Rows = Mapping[str, Sequence[Run]]


def about_tests(rows: Rows) -> Iterator[str]:
    """On what each run was judged; one line where that is the same for all."""
    said = {row: list(dict.fromkeys(_test_of(run) for run in runs)) for row, runs in rows.items()}
    every = list(dict.fromkeys(line for lines in said.values() for line in lines))
    if len(every) == 1:
        yield f"- All rows: {every[0]}."
    else:
        yield from (f"- {escaped(row)}: {line}." for row, lines in said.items() for line in lines)
    if any(len(runs) > 1 for runs in rows.values()):
        yield "- ± is the standard deviation between seeds, not what other clips would give."
    yield from _about_origins([run for runs in rows.values() for run in runs])


def about_losses(rows: Rows, names: Sequence[str]) -> Iterator[str]:
    """A warning where a column or curve has training losses that are not the same quantity."""
    hanging = [name for name in names if hangs_on_training_loss(name)]
    losses = {row: list(dict.fromkeys(in_words(run.loss) for run in runs)) for row, runs in rows.items()}
    if hanging and len({loss for found in losses.values() for loss in found}) > 1:
        each = "; ".join(f"{escaped(row)}: {escaped(' and '.join(found))}" for row, found in losses.items())
        yield f"{', '.join(hanging)}: the rows were trained with different losses, do not rank them by it ({each})."


def _test_of(run: Run) -> str:
    found = run.evaluation
    frames = f"judged on {found.get('n_frames', '?')} test frames of {found.get('n_groups', '?')} clips or photos"
    reason = found.get("optimistic")
    verdict = f"optimistic: {escaped(str(reason))}" if reason else "no known reason for optimism"
    return f"{frames}, protocol {found.get('protocol', '?')}; {verdict}"


def _about_origins(runs: Sequence[Run]) -> Iterator[str]:
    """Whether the runs saw the same split, and were started from the same commit."""
    splits = {digest_of(run.experiment, run.experiment.project.split_csv) for run in runs}
    if len(splits) > 1:
        yield "- The runs did not see the same split (data/split.csv), so they were not judged on the same frames."
    parents = sorted({run.experiment.parent[:8] for run in runs})
    if len(parents) > 1:
        yield f"- The runs were started from different commits: {', '.join(parents)}."
