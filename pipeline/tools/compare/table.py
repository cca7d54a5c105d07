"""The table of a comparison, and the notes below it.

A row of the table is a row of the recipe. Where it ran with several seeds, the table has mean and standard deviation.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.tools.compare.columns import (
    Scalar,
    StudyRun,
    depends_on_training_loss,
    has_side,
    is_share,
    param_in_words,
    value_of,
)
from pipeline.tools.studies.dvc_experiments import digest_of

_SMALLEST_PLAIN, _LARGEST_PLAIN = 0.001, 1e6  # numbers beyond them have three digits


@dataclass(frozen=True)
class TableCell:
    """The values of a column over the runs of a row."""

    values: tuple[Scalar, ...]  # of the runs that have one
    n_runs: int
    reasons: tuple[str, ...]  # why the other runs have no value
    sides: tuple[str, ...] = ()  # whose curves the values are the best points of

    @property
    def mean(self) -> Scalar | None:
        """The mean of numbers. Of other values: the one that all runs share, or all of them in words."""
        if not self.values or len(set(self.values)) == 1:
            return self.values[0] if self.values else None
        if self._are_numbers:
            return statistics.fmean(float(value) for value in self.values)
        return ", ".join(sorted({str(value) for value in self.values}))

    @property
    def deviation(self) -> float | None:
        """The sample's standard deviation; None for fewer than two values, or for values that are no numbers."""
        many = self._are_numbers and len(self.values) > 1
        return statistics.stdev(float(value) for value in self.values) if many else None

    @property
    def _are_numbers(self) -> bool:
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.values)


RunsByRow = Mapping[str, Sequence[StudyRun]]
Cells = Mapping[str, Mapping[str, TableCell]]  # by row and column; only rows that have run


def table_cells(rows: RunsByRow, columns: Sequence[str]) -> dict[str, dict[str, TableCell]]:
    """The cells of rows that have run."""
    return {row: {column: _cell(column, runs) for column in columns} for row, runs in rows.items()}


def table_markdown(rows: Sequence[str], cells: Cells, columns: Sequence[str]) -> Iterator[str]:
    """Write the table in Markdown, line by line. A row without cells says "not run".

    Args:
        rows: all rows of the recipe, in its order.
        cells: those of the rows that have run.
        columns: in the order of the table.
    """
    yield ""
    yield f"| row | runs | {' | '.join(columns)} |"
    yield f"|---|---:|{'---:|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(escape_markdown(text) for text in row_texts(row, cells, columns))} |"
    yield ""


def row_texts(row: str, cells: Cells, columns: Sequence[str]) -> list[str]:
    """The fields of a row as people read them: its name, how many runs it has, and the columns.

    Args:
        row: its name in the recipe.
        cells: those of the rows that have run.
        columns: in the order of the table.
    """
    cell_of = cells.get(row)
    if cell_of is None:
        return [row, "not run", *[""] * len(columns)]
    n_runs = max(cell.n_runs for cell in cell_of.values())
    return [row, str(n_runs), *(_cell_text(column, cell_of[column]) for column in columns)]


def table_csv_rows(rows: Sequence[str], cells: Cells, columns: Sequence[str]) -> Iterator[list[object]]:
    """The table with all digits, the header first.

    After `row` and `runs` every column has two fields: the mean, and its standard deviation in `<column>_sd`. Columns
    that are of one side or the other have a third, `<column>_side`.

    Args:
        rows: all rows of the recipe, in its order.
        cells: those of the rows that have run; the fields of the others are empty.
        columns: in the order of the table.
    """
    yield ["row", "runs", *(name for column in columns for name in _csv_names(column))]
    for row in rows:
        cell_of = cells.get(row)
        n_runs = max(cell.n_runs for cell in cell_of.values()) if cell_of else 0
        fields = [_csv_fields(column, cell_of[column] if cell_of else None) for column in columns]
        yield [row, n_runs, *("" if value is None else value for of_column in fields for value in of_column)]


def _csv_names(column: str) -> list[str]:
    return [column, f"{column}_sd", *([f"{column}_side"] if has_side(column) else [])]


def _csv_fields(column: str, cell: TableCell | None) -> list[object]:
    if cell is None:
        return [None] * len(_csv_names(column))
    return [cell.mean, cell.deviation, *([", ".join(cell.sides)] if has_side(column) else [])]


def missing_value_notes(cells: Cells) -> Iterator[str]:
    """One note for every reason why runs have no value in a column."""
    rows_of: dict[tuple[str, str], list[str]] = {}
    for row, cell_of in cells.items():
        for column, cell in cell_of.items():
            for reason in dict.fromkeys(cell.reasons):
                rows_of.setdefault((column, reason), []).append(row)
    for (column, reason), rows in rows_of.items():
        whose = "All rows" if len(rows) == len(cells) else ", ".join(escape_markdown(row) for row in rows)
        yield f"{whose}: no {column}: {escape_markdown(reason)}."


def judged_on_notes(rows: RunsByRow) -> Iterator[str]:
    """Say on what each run was judged, in one line where that is the same for all runs."""
    lines_of = {row: list(dict.fromkeys(_test_set(run) for run in runs)) for row, runs in rows.items()}
    distinct = list(dict.fromkeys(line for lines in lines_of.values() for line in lines))
    if len(distinct) == 1:
        yield f"- All rows: {distinct[0]}."
    else:
        yield from (f"- {escape_markdown(row)}: {line}." for row, lines in lines_of.items() for line in lines)
    if any(len(runs) > 1 for runs in rows.values()):
        yield "- ± is the standard deviation between seeds. It does not say what other clips would give."
    yield from _origin_notes([run for runs in rows.values() for run in runs])


def loss_warnings(rows: RunsByRow, names: Sequence[str]) -> Iterator[str]:
    """Warn where columns or curves hold training losses of different kinds, which are different quantities."""
    affected = [name for name in names if depends_on_training_loss(name)]
    rows_of: dict[str, list[str]] = {}
    for row, runs in rows.items():
        for loss in dict.fromkeys(param_in_words(run.loss) for run in runs):
            rows_of.setdefault(loss, []).append(row)
    if affected and len(rows_of) > 1:
        listed = "; ".join(
            f"{escape_markdown(loss)}: {escape_markdown(', '.join(of_loss))}" for loss, of_loss in rows_of.items()
        )
        yield f"{', '.join(affected)}: the rows were trained with different losses, do not rank them by it ({listed})."


def escape_markdown(text: str) -> str:
    """Escape text so that Markdown shows it letter by letter, in a table too."""
    for letter in "\\`*_[]<>|":
        text = text.replace(letter, f"\\{letter}")
    return " ".join(text.split())


def _cell(column: str, runs: Sequence[StudyRun]) -> TableCell:
    looked_up = [value_of(column, run) for run in runs]
    values = tuple(entry.value for entry in looked_up if entry.value is not None)
    reasons = tuple(entry.reason for entry in looked_up if entry.value is None and entry.reason)
    sides = tuple(dict.fromkeys(entry.side for entry in looked_up if entry.side))
    return TableCell(values, len(runs), reasons, sides)


def _cell_text(column: str, cell: TableCell) -> str:
    mean, deviation = cell.mean, cell.deviation
    if mean is None:
        return ""
    spread = "" if not deviation else f" ± {_value_text(column, deviation)}"
    fewer = f" ({len(cell.values)} runs)" if 1 < cell.n_runs != len(cell.values) else ""
    side = f" ({', '.join(cell.sides)})" if cell.sides else ""
    return f"{_value_text(column, mean)}{spread}{fewer}{' %' if is_share(column) else ''}{side}"


def _value_text(column: str, value: Scalar) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if is_share(column):
        return f"{value:.1%}".removesuffix("%")
    if "." in column:  # a param, printed as it was written
        return str(value)
    if isinstance(value, int):
        return str(value) if column == "published_year" else f"{value:,}"
    return f"{value:.1f}" if column in ("minutes", "caching_minutes", "best_epoch") else _number_text(value)


def _number_text(value: float) -> str:
    is_plain = value == 0 or _SMALLEST_PLAIN <= abs(value) < _LARGEST_PLAIN
    return f"{value:.4f}" if is_plain else f"{value:.3g}"


def _test_set(run: StudyRun) -> str:
    report = run.evaluation
    kind = "frames out of fold," if run.is_out_of_fold else "test frames"
    frames = f"judged on {report.get('n_frames', '?')} {kind} of {report.get('n_groups', '?')} clips or photos"
    reason = report.get("optimistic")
    optimism = f"optimistic: {escape_markdown(str(reason))}" if reason else "no known reason for optimism"
    return f"{frames}, protocol {report.get('protocol', '?')}; {optimism}"


def _origin_notes(runs: Sequence[StudyRun]) -> Iterator[str]:
    """Say whether the runs saw different splits, or started from different commits."""
    splits = {digest_of(run.experiment, run.experiment.project.split_csv) for run in runs}
    if len(splits) > 1:
        yield "- The runs did not see the same split (data/split.csv), so they were not judged on the same frames."
    parents = sorted({run.experiment.parent[:8] for run in runs})
    if len(parents) > 1:
        yield f"- The runs were started from different commits: {', '.join(parents)}."
