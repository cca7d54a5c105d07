"""Experiments side by side: a table in Markdown and CSV, and the figures that a study's recipe asks for.

Nothing is ranked: rows stand in the recipe's order, and notes say what must not be set side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.errors import DataError, ParamsError
from pipeline.base.files import replacing_folder, write_csv
from pipeline.base.project import Project
from pipeline.tools.compare import pairs as pairing
from pipeline.tools.compare import table as compare_table
from pipeline.tools.compare.columns import Run
from pipeline.tools.compare.figures import draw_figure
from pipeline.tools.compare.table import about_losses, about_tests
from pipeline.tools.studies.dvc_experiments import Experiment, list_experiments, param
from pipeline.tools.studies.recipe import differences, find_recipe, read_study
from pipeline.tools.studies.recipe_schema import COMMON_COLUMNS, Comparison
from pipeline.tools.studies.study import experiment_names, is_run_of

ALL = "experiments"  # the folder of a comparison without a study


@dataclass(frozen=True)
class CompareReport:
    """What was set side by side."""

    table: str  # the table's path in the project
    n_rows: int
    n_runs: int
    n_figures: int
    not_run: tuple[str, ...]

    @property
    def headline(self) -> str:
        """The closing line."""
        missing = f"; not run: {', '.join(self.not_run)}" if self.not_run else ""
        figures = f", {self.n_figures} figure{'s' if self.n_figures > 1 else ''} beside it" if self.n_figures else ""
        return f"compared {self.n_runs} runs in {self.n_rows} rows{missing}; {self.table}{figures}"


def compare_study(name: str, project: Project) -> CompareReport:
    """Write `reports/compare/<name>/` from the experiments that `pipe study` has run.

    Raises:
        ParamsError: there is no such recipe, or it does not say what to compare.
        DataError: none of its rows has run.
    """
    study = read_study(name, project)
    path = find_recipe(name, project)
    if study.compare is None:
        raise ParamsError(f"{path}: no mapping `compare:`; expected the columns of the table and its figures")
    names = experiment_names(name, list(study.rows))
    listed = list_experiments(project).values()
    rows, notes = {}, []
    for row, values in study.rows.items():
        runs, faults = _sound([experiment for experiment in listed if is_run_of(experiment.name, names[row])])
        rows[row] = _one_per_seed(runs)
        notes += faults + [_of_another_recipe(run, study.params, values) for run in rows[row]]
    if not any(rows.values()):
        raise DataError(f"{path}: no row has run; pipe study {name} runs them" + "".join(f"; {note}" for note in notes))
    heading = f"Study {name}"
    return _write(project.compare_reports / name, heading, rows, study.compare, [note for note in notes if note])


def compare_all(project: Project) -> CompareReport:
    """Write `reports/compare/experiments/` from every successful experiment.

    Raises:
        DataError: there is none.
    """
    runs, notes = _sound(list_experiments(project).values())
    if not runs:
        raise DataError(f"{project.root}: no experiments; run some with `dvc exp run` or `pipe study NAME`")
    rows = {run.experiment.name: [run] for run in runs}
    return _write(
        project.compare_reports / ALL, "All experiments", rows, Comparison(columns=COMMON_COLUMNS, figures=()), notes
    )


def _sound(found: Iterable[Experiment]) -> tuple[list[Run], list[str]]:
    """The runs whose numbers are theirs, and a note for each of the others."""
    faults = {experiment: experiment.fault() for experiment in found}
    runs = [Run(experiment) for experiment, fault in faults.items() if not fault]
    return runs, [f"{experiment.name} is not counted: {fault}." for experiment, fault in faults.items() if fault]


def _one_per_seed(runs: Sequence[Run]) -> list[Run]:
    """Of runs with the same seed (the row's own, and one of `--seeds`) the later name: they are the same run."""
    by_seed = {param(run.experiment.params, "train.seed"): run for run in runs}
    return [by_seed[seed] for seed in sorted(by_seed, key=str)]


def _of_another_recipe(run: Run, *layers: Mapping[str, Any]) -> str:
    text = run.experiment.text(run.experiment.project.params_yaml) or ""
    differs = [name for name in differences(text, layers) if name != "train.seed"]
    return f"{run.experiment.name} ran with another {', '.join(differs)} than the recipe has now." if differs else ""


def _write(
    folder: Path, heading: str, rows: Mapping[str, Sequence[Run]], comparison: Comparison, notes: Sequence[str]
) -> CompareReport:
    done = {row: runs for row, runs in rows.items() if runs}
    cells = compare_table.cells(done, comparison.columns)
    pairs, unpaired = pairing.pairs(done)
    about = about_losses(done, comparison.columns)
    all_notes = [*about, *compare_table.reasons(cells), *notes, *unpaired]
    lines = [
        f"# {heading}",
        *compare_table.markdown(list(rows), cells, comparison.columns),
        *about_tests(done),
        *(f"- {note}" for note in dict.fromkeys(all_notes)),
        *pairing.markdown(pairs),
    ]
    n_figures = 0
    with replacing_folder(folder) as temporary:
        for number, figure in enumerate(comparison.figures, start=1):
            missing = draw_figure(figure, done, temporary / f"figure_{number}.png")
            is_drawn = (temporary / f"figure_{number}.png").exists()
            n_figures += is_drawn
            picture = f"![{compare_table.escaped(figure.title)}](figure_{number}.png)" if is_drawn else "Not drawn."
            about = about_losses({row: done[row] for row in figure.rows if row in done}, figure.curves)
            lines += ["", f"## {compare_table.escaped(figure.title)}", "", picture, ""]
            lines += [f"- {note}" for note in (*missing, *about)]
        (temporary / "table.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8", newline="\n")
        write_csv(temporary / "table.csv", compare_table.csv_lines(list(rows), cells, comparison.columns))
        if pairs:
            write_csv(temporary / "pairs.csv", pairing.csv_lines(pairs))
    table = "/".join([*folder.parts[-3:], "table.md"])
    n_runs = sum(len(runs) for runs in done.values())
    return CompareReport(table, len(done), n_runs, n_figures, tuple(row for row in rows if row not in done))
