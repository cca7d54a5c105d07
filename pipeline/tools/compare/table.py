"""The table of a comparison: a row per variant, mean and standard deviation where a variant ran with several seeds."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.tools.compare.columns import Run, Scalar, hangs_on_training_loss, in_words, is_share, value_of
from pipeline.tools.studies.dvc_experiments import digest_of

Cells = Mapping[str, Mapping[str, "Cell"]]  # by row and column; only rows that ran


@dataclass(frozen=True)
class Cell:
    """A column over the runs of a row."""

    values: tuple[Scalar, ...]  # of the runs that have one
    n_runs: int
    reasons: tuple[str, ...]  # why the others have none

    @property
    def mean(self) -> Scalar | None:
        """The mean of numbers; of anything else what all runs agree on, or all of it in words."""
        if not self.values or len(set(self.values)) == 1:
            return self.values[0] if self.values else None
        if self._are_numbers:
            return statistics.fmean(float(value) for value in self.values)
        return ", ".join(sorted({str(value) for value in self.values}))

    @property
    def deviation(self) -> float | None:
        """The sample's standard deviation; None for less than two numbers, or for what is no number."""
        many = self._are_numbers and len(self.values) > 1
        return statistics.stdev(float(value) for value in self.values) if many else None

    @property
    def _are_numbers(self) -> bool:
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.values)


def cells(rows: Mapping[str, Sequence[Run]], columns: Sequence[str]) -> dict[str, dict[str, Cell]]:
    """The cells of rows that have run."""
    return {row: {column: _cell(column, runs) for column in columns} for row, runs in rows.items()}


def reasons(table: Cells) -> Iterator[str]:
    """A note for every reason why cells lack a run's value."""
    rows_of: dict[tuple[str, str], list[str]] = {}
    for row, columns in table.items():
        for column, cell in columns.items():
            for reason in dict.fromkeys(cell.reasons):
                rows_of.setdefault((column, reason), []).append(row)
    for (column, reason), rows in rows_of.items():
        whose = "All rows" if len(rows) == len(table) else ", ".join(escaped(row) for row in rows)
        yield f"{whose}: no {column}: {escaped(reason)}."


def markdown(rows: Sequence[str], table: Cells, columns: Sequence[str]) -> Iterator[str]:
    """The lines of the table; a row that did not run says so."""
    yield ""
    yield f"| row | runs | {' | '.join(columns)} |"
    yield f"|---|---:|{'---:|' * len(columns)}"
    for row in rows:
        found = table.get(row)
        texts = ["not run", *[""] * len(columns)]
        if found is not None:
            n_runs = max(cell.n_runs for cell in found.values())
            texts = [str(n_runs), *(_text(column, found[column]) for column in columns)]
        yield f"| {escaped(row)} | {' | '.join(texts)} |"
    yield ""


def csv_lines(rows: Sequence[str], table: Cells, columns: Sequence[str]) -> Iterator[list[object]]:
    """The same with all digits: `runs`, then for every column the mean, and its standard deviation in `<column>_sd`."""
    yield ["row", "runs", *(name for column in columns for name in (column, f"{column}_sd"))]
    for row in rows:
        found = table.get(row)
        n_runs = max(cell.n_runs for cell in found.values()) if found else 0
        pairs = [(found[column].mean, found[column].deviation) if found else (None, None) for column in columns]
        yield [row, n_runs, *("" if value is None else value for pair in pairs for value in pair)]


def escaped(text: str) -> str:
    """Text as Markdown shows it letter by letter, in a table too."""
    for letter in "\\`*_[]<>|":
        text = text.replace(letter, f"\\{letter}")
    return " ".join(text.split())


def _cell(column: str, runs: Sequence[Run]) -> Cell:
    found = [value_of(column, run) for run in runs]
    values = tuple(one.value for one in found if one.value is not None)
    return Cell(values, len(runs), tuple(one.reason for one in found if one.value is None and one.reason))


def _text(column: str, cell: Cell) -> str:
    mean, deviation = cell.mean, cell.deviation
    if mean is None:
        return ""
    spread = "" if not deviation else f" ± {_number(column, deviation)}"
    fewer = f" ({len(cell.values)} runs)" if 1 < cell.n_runs != len(cell.values) else ""
    return f"{_number(column, mean)}{spread}{fewer}{' %' if is_share(column) else ''}"


def _number(column: str, value: Scalar) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return escaped(value)
    if is_share(column):
        return f"{value:.1%}".removesuffix("%")
    if "." in column:  # a param, as it was written
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.1f}" if column in ("minutes", "best_epoch") else f"{value:.4f}"


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
