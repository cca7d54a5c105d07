"""Set experiments side by side: a table in Markdown and CSV, and the figures that a study's recipe asks for.

Nothing is ranked. Rows keep the recipe's order, and notes say which numbers must not be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.errors import DataError, ParamsError
from pipeline.base.files import replacing_folder
from pipeline.base.project import Project
from pipeline.base.storage.csv_files import write_csv
from pipeline.base.words import counted
from pipeline.tools.compare.columns import StudyRun
from pipeline.tools.compare.figures import draw_figure
from pipeline.tools.compare.pairs import pair_rows, pairs_csv_rows, pairs_markdown
from pipeline.tools.compare.table import (
    RunsByRow,
    escape_markdown,
    judged_on_notes,
    loss_warnings,
    missing_value_notes,
    table_cells,
    table_csv_rows,
    table_markdown,
)
from pipeline.tools.studies.dvc_experiments import Experiment, list_experiments, param_value
from pipeline.tools.studies.recipe import differences, find_recipe, read_study
from pipeline.tools.studies.recipe_schema import COMMON_COLUMNS, CompareSection, FigureParams
from pipeline.tools.studies.study import experiment_names, is_run_of

ALL = "experiments"  # the folder of a comparison without a study


@dataclass(frozen=True)
class CompareReport:
    """The size of a comparison, and where it lies."""

    table: str  # the table's path in the project
    n_rows: int
    n_runs: int
    n_figures: int
    not_run: tuple[str, ...]  # names of rows

    @property
    def headline(self) -> str:
        """The closing line."""
        missing = f"; not run: {', '.join(self.not_run)}" if self.not_run else ""
        figures = f", {counted(self.n_figures, 'figure')} beside it" if self.n_figures else ""
        return (
            f"compared {counted(self.n_runs, 'run')} in {counted(self.n_rows, 'row')}{missing}; {self.table}{figures}"
        )


def compare_study(name: str, project: Project) -> CompareReport:
    """Write `reports/compare/<name>/` from the experiments that `pipe study` has run.

    Raises:
        ParamsError: there is no such recipe, or it has no section `compare`.
        DataError: none of its rows has run.
    """
    study = read_study(name, project)
    path = find_recipe(name, project)
    if study.compare is None:
        raise ParamsError(f"{path}: no mapping `compare:`; expected the columns of the table and its figures")
    names = experiment_names(name, list(study.rows))
    experiments = list_experiments(project).values()
    rows, notes = {}, []
    for row, values in study.rows.items():
        runs, faults = _valid_runs([entry for entry in experiments if is_run_of(entry.name, names[row])])
        rows[row] = _one_per_seed(runs)
        notes += faults + [_outdated_note(run, study.params, values) for run in rows[row]]
    if not any(rows.values()):
        raise DataError(f"{path}: no row has run; pipe study {name} runs them" + "".join(f"; {note}" for note in notes))
    heading = f"Study {name}"
    return _write(project.compare_reports / name, heading, rows, study.compare, [note for note in notes if note])


def compare_all(project: Project) -> CompareReport:
    """Write `reports/compare/experiments/` from every successful experiment.

    Raises:
        DataError: there is none.
    """
    runs, notes = _valid_runs(list_experiments(project).values())
    if not runs:
        raise DataError(f"{project.root}: no experiments; run some with `dvc exp run` or `pipe study NAME`")
    rows = {run.experiment.name: [run] for run in runs}
    section = CompareSection(columns=COMMON_COLUMNS, figures=())
    return _write(project.compare_reports / ALL, "All experiments", rows, section, notes)


def _valid_runs(experiments: Iterable[Experiment]) -> tuple[list[StudyRun], list[str]]:
    """The runs whose reports belong to their params, and a note for each of the others."""
    faults = {experiment: experiment.fault() for experiment in experiments}
    runs = [StudyRun(experiment) for experiment, fault in faults.items() if not fault]
    return runs, [f"{experiment.name} is not counted: {fault}." for experiment, fault in faults.items() if fault]


def _one_per_seed(runs: Sequence[StudyRun]) -> list[StudyRun]:
    """Keep one run per seed, the one whose name is sorted last.

    A row's own run and one of `--seeds` may have the same seed; they are the same run.
    """
    by_seed = {param_value(run.experiment.params, "train.seed"): run for run in runs}
    return [by_seed[seed] for seed in sorted(by_seed, key=str)]


def _outdated_note(run: StudyRun, *layers: Mapping[str, Any]) -> str:
    """A note if the run's params differ from the recipe of today; else empty."""
    text = run.experiment.text(run.experiment.project.params_yaml) or ""
    changed = [name for name in differences(text, layers) if name != "train.seed"]
    return f"{run.experiment.name} ran with another {', '.join(changed)} than the recipe has now." if changed else ""


def _write(folder: Path, heading: str, rows: RunsByRow, section: CompareSection, notes: Sequence[str]) -> CompareReport:
    done = {row: runs for row, runs in rows.items() if runs}
    cells = table_cells(done, section.columns)
    pairs, unpaired = pair_rows(done)
    all_notes = [*loss_warnings(done, section.columns), *missing_value_notes(cells), *notes, *unpaired]
    lines = [
        f"# {heading}",
        *table_markdown(list(rows), cells, section.columns),
        *judged_on_notes(done),
        *(f"- {note}" for note in dict.fromkeys(all_notes)),
        *pairs_markdown(pairs),
    ]
    with replacing_folder(folder) as temporary:
        for index, figure in enumerate(section.figures, start=1):
            lines += _figure_lines(figure, done, temporary / f"figure_{index}.png")
        (temporary / "table.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8", newline="\n")
        write_csv(temporary / "table.csv", table_csv_rows(list(rows), cells, section.columns))
        if pairs:
            write_csv(temporary / "pairs.csv", pairs_csv_rows(pairs))
        n_figures = len(list(temporary.glob("figure_*.png")))
    table = "/".join([*folder.parts[-3:], "table.md"])
    n_runs = sum(len(runs) for runs in done.values())
    return CompareReport(table, len(done), n_runs, n_figures, tuple(row for row in rows if row not in done))


def _figure_lines(figure: FigureParams, rows: RunsByRow, path: Path) -> list[str]:
    """Draw a figure; give its section of the page."""
    lacking = draw_figure(figure, rows, path)
    picture = f"![{escape_markdown(figure.title)}]({path.name})" if path.exists() else "Not drawn."
    warnings = loss_warnings({row: rows[row] for row in figure.rows if row in rows}, figure.curves)
    notes = [f"- {note}" for note in (*lacking, *warnings)]
    return ["", f"## {escape_markdown(figure.title)}", "", picture, "", *notes]
