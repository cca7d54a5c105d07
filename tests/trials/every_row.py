"""Runs every row of every study in small, from photos to the comparison: `python -m tests.trials.every_row DIR`.

Each study runs in a copy of the repository in DIR, on generated photos, as `pipe study NAME --small` runs it. It prints
a table with a line per row, and exits 1 if a row or a comparison fails. `STUDY` and `ROW` choose some of them:

    python -m tests.trials.every_row DIR graphite "I-VGG16 + FL"

A row fails where its experiment fails, where it trained another network or for other epochs than the recipe in small
names, where a curve or a number is missing, and where the comparison does not have it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.base.errors import PipeError
from pipeline.base.project import Project
from pipeline.tools.compare.columns import StudyRun
from pipeline.tools.compare.compare import compare_study
from pipeline.tools.studies.dvc_experiments import list_experiments, param_value
from pipeline.tools.studies.recipe import read_params_of_recipe, read_study
from pipeline.tools.studies.recipe_schema import Study
from pipeline.tools.studies.small import RECIPE, name_of_runs
from pipeline.tools.studies.study import experiment_names, study
from tests.support.experiment_project import clone_of_repository
from tests.support.recipes.tables import STUDIES

CLASSES = {"graphite": 4, "fish": 3, "lfw": 6, "cub": 6, "pothole": 2, "catsdogs": 2}
N_PHOTOS = 10  # of a class
KEPT_AS_IN_THE_RECIPE = ("model.arch", "model.head", "model.freeze", "train.loss", "train.optimizer", "train.online")
HEADING = "| study | row | network | epochs | outcome | seconds |\n|---|---|---|---|---|---|"


@dataclass(frozen=True)
class Outcome:
    """How a row of a study ended."""

    study: str
    row: str
    network: str  # architecture and head that were trained; empty where nothing was
    epochs: int | None  # points of the curve of the training loss
    faults: tuple[str, ...]
    seconds: float
    same_as: str | None = None  # an earlier row that has the same params in small; DVC trains nothing then

    @property
    def line(self) -> str:
        """The row's line of the table."""
        passed = f"passed, as {self.same_as}" if self.same_as else "passed"
        outcome = f"**failed**: {'; '.join(self.faults)}" if self.faults else passed
        epochs = "" if self.epochs is None else str(self.epochs)
        cells = (self.study, self.row, self.network, epochs, outcome, f"{self.seconds:.0f}")
        return f"| {' | '.join(cell.replace('|', '¦') for cell in cells)} |"


def main(folder: Path, names: Sequence[str], rows: Sequence[str]) -> int:
    print(HEADING, flush=True)
    n_failed, n_rows, faults = 0, 0, list[str]()
    started = time.monotonic()
    for name in names:
        project = clone_of_repository(folder / name)
        write_photos(project, CLASSES[name])
        for outcome in run_rows(name, rows, project):
            print(outcome.line, flush=True)
            n_rows += 1
            n_failed += bool(outcome.faults)
        faults += comparison_faults(name, rows, project)
    for fault in faults:
        print(f"FAULT {fault}")
    print(
        f"{n_failed} of {n_rows} rows failed, {len(faults)} faults of comparisons, {time.monotonic() - started:.0f} s"
    )
    return 1 if n_failed or faults else 0


def write_photos(project: Project, n_classes: int) -> None:
    """Draw photos of noise, each class of its own shade; no two show the same pixels."""
    generator = np.random.default_rng(0)
    for number, shade in enumerate(np.linspace(30, 220, n_classes)):
        folder = project.raw / f"class {number}"
        folder.mkdir(parents=True)
        for photo in range(N_PHOTOS):
            pixels_hwc = np.array((shade, 120, 250 - shade)) + generator.normal(0, 20, (70, 90, 3))
            Image.fromarray(pixels_hwc.clip(0, 255).astype(np.uint8)).save(folder / f"{photo}.jpg")


def run_rows(name: str, rows: Sequence[str], project: Project) -> Iterator[Outcome]:
    """Run rows of a study in small, one after the other; all of its rows where `rows` is empty."""
    recipe = read_study(name, project)
    seen: dict[str, Mapping[str, Any]] = {}
    for row in rows or recipe.rows:
        started = time.monotonic()
        try:
            study(name, [row], 1, project, small=True)
        except PipeError as error:
            yield Outcome(name, row, "", None, (str(error),), time.monotonic() - started)
            continue
        seconds = time.monotonic() - started
        run = run_of(name, recipe, row, project)
        if run is None:
            yield Outcome(name, row, "", None, ("no experiment",), seconds)
            continue
        params = run.experiment.params
        same_as = next((earlier for earlier, values in seen.items() if values == params), None)
        seen[row] = params
        network = f"{param_value(params, 'model.arch')}, {param_value(params, 'model.head')}"
        n_epochs = len(run.curves.get("train/loss", []))
        yield Outcome(name, row, network, n_epochs, tuple(faults_of(run, recipe, row)), seconds, same_as)


def run_of(name: str, recipe: Study, row: str, project: Project) -> StudyRun | None:
    """The run of a row in small; None where there is none."""
    names = experiment_names(name_of_runs(name, small=True), list(recipe.rows))
    experiment = list_experiments(project).get(names[row])
    return None if experiment is None else StudyRun(experiment)


def faults_of(run: StudyRun, recipe: Study, row: str) -> Iterator[str]:
    """Say what is wrong with the run of a row, as the recipe and `recipes/small.yaml` have it."""
    if fault := run.experiment.fault():
        yield fault
    params = run.experiment.params
    for key in KEPT_AS_IN_THE_RECIPE:
        wanted = param_value(recipe.rows[row], key) or param_value(recipe.params, key)
        if wanted is not None and param_value(params, key) != wanted:
            yield f"ran with {key} {param_value(params, key)}, and the recipe has {wanted}"
    epochs = param_value(read_params_of_recipe(RECIPE, run.experiment.project), "train.epochs")
    if epochs != (n_epochs := len(run.curves.get("train/loss", []))):
        yield f"trained for {n_epochs} epochs, and recipes/{RECIPE}.yaml has {epochs}"
    if param_value(params, "train.watch_test") and "test/loss" not in run.curves:
        yield "no curve of the test side"
    top1 = run.evaluation.get("top1")
    if top1 is None or not 0 <= top1 <= 1:
        yield f"top1 is {top1}"


def comparison_faults(name: str, rows: Sequence[str], project: Project) -> list[str]:
    """What the comparison of the rows lacks: rows that ran, and figures all of whose rows ran."""
    recipe = read_study(name, project)
    try:
        report = compare_study(name, project, small=True)
    except PipeError as error:
        return [str(error)]
    chosen = list(rows or recipe.rows)
    faults = [f"{name}: the table lacks {row}" for row in report.not_run if row in chosen]
    figures = recipe.compare.figures if recipe.compare else ()
    n_wanted = sum(set(figure.rows) <= set(chosen) for figure in figures)
    if report.n_figures < n_wanted:
        faults.append(f"{name}: {report.n_figures} figures were drawn; expected {n_wanted}")
    return faults


if __name__ == "__main__":
    _, where, *chosen = sys.argv
    sys.exit(main(Path(where), chosen[:1] or list(STUDIES), chosen[1:]))
