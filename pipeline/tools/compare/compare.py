"""Set experiments side by side: a table in Markdown, CSV and LaTeX, and the figures that a study's recipe asks for.

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
from pipeline.tools.compare.choosing import choosing_notes, to_choose_by_first
from pipeline.tools.compare.columns import StudyRun
from pipeline.tools.compare.figures import draw_figure
from pipeline.tools.compare.judged_clips import count_judged_runs
from pipeline.tools.compare.latex import figures_latex, table_latex
from pipeline.tools.compare.pairs import HEADINGS, pair_rows, pair_texts, pairs_csv_rows, pairs_markdown
from pipeline.tools.compare.table import (
    RunsByRow,
    escape_markdown,
    judged_on_notes,
    loss_warnings,
    missing_value_notes,
    row_texts,
    table_cells,
    table_csv_rows,
    table_markdown,
)
from pipeline.tools.studies.dvc_experiments import Experiment, list_experiments, param_value
from pipeline.tools.studies.recipe import differences, find_recipe, read_params_of_recipe, read_study
from pipeline.tools.studies.recipe_schema import COMMON_COLUMNS, CompareSection, FigureParams
from pipeline.tools.studies.small import RECIPE, name_of_runs
from pipeline.tools.studies.study import experiment_names, is_run_of

_IN_SMALL = "in small: its numbers mean nothing"
ALL = "experiments"  # the folder of a comparison without a study
_CHOSEN_BY_SEEDS, _CHOSEN_BY_SMALL = "train.seed", "split.counts"  # params that the options of `pipe study` set


@dataclass(frozen=True)
class CompareReport:
    """The size of a comparison, and where it lies."""

    table: str  # the path of table.md in the project
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


def compare_study(name: str, project: Project, *, small: bool = False) -> CompareReport:
    """Write `reports/compare/<name>/` from the experiments that `pipe study` has run.

    Args:
        name: the study.
        project: has the experiments.
        small: compare the runs of `pipe study --small`, in `reports/compare/<name>.small/`.

    Raises:
        ParamsError: there is no such recipe, or it has no section `compare`.
        DataError: none of its rows has run.
    """
    study = read_study(name, project)
    path = find_recipe(name, project)
    if study.compare is None:
        raise ParamsError(f"{path}: no mapping `compare:`; expected the columns of the table and its figures")
    name_of_all = name_of_runs(name, small=small)
    names = experiment_names(name_of_all, list(study.rows))
    overlay = [read_params_of_recipe(RECIPE, project)] if small else []
    set_by_options = (_CHOSEN_BY_SEEDS, *([_CHOSEN_BY_SMALL] if small else []))
    experiments = list_experiments(project).values()
    rows, notes = {}, []
    for row, values in study.rows.items():
        runs, faults = _valid_runs([entry for entry in experiments if is_run_of(entry.name, names[row])])
        rows[row] = _one_per_seed(runs)
        layers = [study.params, values, *overlay]
        notes += faults + [_outdated_note(run, layers, set_by_options) for run in rows[row]]
    if not any(rows.values()):
        command = f"pipe study {name}{' --small' if small else ''}"
        raise DataError(f"{path}: no row has run; {command} runs them" + "".join(f"; {note}" for note in notes))
    heading, section = f"Study {name}", study.compare
    if small:
        heading, section = f"{heading}, {_IN_SMALL}", _captions_in_small(section)
    folder = project.compare_reports / name_of_all
    return _write(folder, heading, rows, section, [note for note in notes if note])


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


def _captions_in_small(section: CompareSection) -> CompareSection:
    """The same section, with captions that say of the numbers that they mean nothing."""
    caption = None if section.caption is None else f"{section.caption} ({_IN_SMALL})"
    figures = tuple(
        figure.model_copy(update={"caption": f"{figure.caption or figure.title} ({_IN_SMALL})"})
        for figure in section.figures
    )
    return section.model_copy(update={"caption": caption, "figures": figures})


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


def _outdated_note(run: StudyRun, layers: Sequence[Mapping[str, Any]], set_by_options: Sequence[str]) -> str:
    """A note if the run's params differ from the recipe of today; else empty."""
    text = run.experiment.text(run.experiment.project.params_yaml) or ""
    changed = [
        name
        for name in differences(text, layers)
        if not any(name == option or name.startswith(f"{option}.") for option in set_by_options)
    ]
    return f"{run.experiment.name} ran with another {', '.join(changed)} than the recipe has now." if changed else ""


def _write(folder: Path, heading: str, rows: RunsByRow, section: CompareSection, notes: Sequence[str]) -> CompareReport:
    done = {row: runs for row, runs in rows.items() if runs}
    all_runs = [run for runs in done.values() for run in runs]
    columns = to_choose_by_first(section.columns, all_runs)
    cells = table_cells(done, columns)
    pairs, unpaired = pair_rows(done)
    all_notes = [*loss_warnings(done, columns), *missing_value_notes(cells), *notes, *unpaired]
    lines = [
        f"# {heading}",
        *(["", escape_markdown(section.caption)] if section.caption else []),
        *table_markdown(list(rows), cells, columns),
        *choosing_notes(done, columns, count_judged_runs(all_runs[0].experiment.project)),
        *judged_on_notes(done),
        *(f"- {note}" for note in dict.fromkeys(all_notes)),
        *pairs_markdown(pairs),
    ]
    texts = [row_texts(row, cells, columns) for row in rows]
    with replacing_folder(folder) as temporary:
        for index, figure in enumerate(section.figures, start=1):
            lines += _figure_lines(figure, done, temporary / f"figure_{index}.png")
        _write_text(temporary / "table.md", "\n".join(lines).rstrip() + "\n")
        write_csv(temporary / "table.csv", table_csv_rows(list(rows), cells, columns))
        _write_text(temporary / "table.tex", table_latex(section.caption or heading, ["row", "runs", *columns], texts))
        if pairs:
            write_csv(temporary / "pairs.csv", pairs_csv_rows(pairs))
            pair_rows_texts = [pair_texts(pair) for pair in pairs]
            _write_text(temporary / "pairs.tex", table_latex(f"{heading}: pairs of rows", HEADINGS, pair_rows_texts))
        captions = _captions(section, temporary)
        if captions:
            _write_text(temporary / "figures.tex", figures_latex(captions))
    table = "/".join([*folder.parts[-3:], "table.md"])
    return CompareReport(table, len(done), len(all_runs), len(captions), tuple(row for row in rows if row not in done))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _captions(section: CompareSection, folder: Path) -> list[tuple[str, str]]:
    """The PDF file of each figure that was drawn, and its caption: the text's own, else the title."""
    files = [f"figure_{index}.pdf" for index in range(1, len(section.figures) + 1)]
    return [
        (file, figure.caption or figure.title)
        for file, figure in zip(files, section.figures, strict=True)
        if (folder / file).exists()
    ]


def _figure_lines(figure: FigureParams, rows: RunsByRow, path: Path) -> list[str]:
    """Draw a figure; give its section of the page."""
    lacking = draw_figure(figure, rows, path)
    picture = f"![{escape_markdown(figure.title)}]({path.name})" if path.exists() else "Not drawn."
    caption = ["", escape_markdown(figure.caption)] if figure.caption else []
    warnings = loss_warnings({row: rows[row] for row in figure.rows if row in rows}, figure.curves)
    notes = [f"- {note}" for note in (*lacking, *warnings)]
    return ["", f"## {escape_markdown(figure.title)}", "", picture, *caption, *(["", *notes] if notes else [])]
