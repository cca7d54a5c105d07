"""Run every row of every study in small, from photos to the comparison: `python -m tests.trials.small_studies DIR`.

Each study runs in a copy of the repository in DIR, on generated photos. `STUDY` and `ROW` choose some of them:

    python -m tests.trials.small_studies DIR graphite "I-VGG16 + FL"

A row is at fault where it fails, where it trained another network than the recipe names, or where the table lacks it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.base.errors import PipeError
from pipeline.base.project import Project
from pipeline.tools.compare.compare import compare_study
from pipeline.tools.studies.dvc_experiments import list_experiments, param_value
from pipeline.tools.studies.recipe import read_study
from pipeline.tools.studies.recipe_schema import Study
from pipeline.tools.studies.small import name_of_runs
from pipeline.tools.studies.study import experiment_names, study
from tests.support.experiment_project import clone_of_repository
from tests.support.recipes.tables import STUDIES

CLASSES = {"graphite": 4, "fish": 3, "lfw": 6, "cub": 6, "pothole": 2, "catsdogs": 2}
N_PHOTOS = 10  # of a class
KEPT_AS_IN_THE_RECIPE = ("model.arch", "model.head", "model.freeze", "train.loss", "train.optimizer", "train.online")


def main(folder: Path, names: Sequence[str], rows: Sequence[str]) -> int:
    faults = []
    for name in names:
        project = clone_of_repository(folder / name)
        write_photos(project, CLASSES[name])
        recipe = read_study(name, project)
        started = time.monotonic()
        try:
            study(name, rows, 1, project, small=True)
        except PipeError as error:
            faults.append(str(error))
        chosen = rows or list(recipe.rows)
        report = compare_study(name, project, small=True)
        of_study = [*wrong_networks(name, recipe, chosen, project), *(set(report.not_run) & set(chosen))]
        faults += [f"{name}: {fault}" for fault in of_study]
        n_drawn = f"{report.n_figures} of {len(recipe.compare.figures) if recipe.compare else 0} figures"
        seconds = time.monotonic() - started
        print(f"{name}: {report.n_rows} of {len(recipe.rows)} rows, {n_drawn}, {seconds:.0f} s", flush=True)
    for fault in faults:
        print(f"FAULT {fault}")
    return 1 if faults else 0


def write_photos(project: Project, n_classes: int) -> None:
    """Draw photos of noise, each class of its own shade; no two show the same pixels."""
    generator = np.random.default_rng(0)
    for number, shade in enumerate(np.linspace(30, 220, n_classes)):
        folder = project.raw / f"class {number}"
        folder.mkdir(parents=True)
        for photo in range(N_PHOTOS):
            pixels_hwc = np.array((shade, 120, 250 - shade)) + generator.normal(0, 20, (70, 90, 3))
            Image.fromarray(pixels_hwc.clip(0, 255).astype(np.uint8)).save(folder / f"{photo}.jpg")


def wrong_networks(name: str, recipe: Study, rows: Sequence[str], project: Project) -> list[str]:
    """What a row trained with, where that is not what the recipe names."""
    names, experiments = experiment_names(name_of_runs(name, small=True), list(recipe.rows)), list_experiments(project)
    faults = []
    for row in rows:
        if names[row] not in experiments:
            faults.append(f"{row}: no experiment")
            continue
        params = experiments[names[row]].params
        for key in KEPT_AS_IN_THE_RECIPE:
            wanted = param_value(recipe.rows[row], key) or param_value(recipe.params, key)
            if wanted is not None and param_value(params, key) != wanted:
                faults.append(f"{row}: ran with {key} {param_value(params, key)}, and the recipe has {wanted}")
    return faults


if __name__ == "__main__":
    _, where, *chosen = sys.argv
    sys.exit(main(Path(where), chosen[:1] or list(STUDIES), chosen[1:]))
