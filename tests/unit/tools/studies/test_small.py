"""A study in small runs each row's own network: the overlay shrinks pictures, epochs and weights, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.base.project import Project
from pipeline.params import Params, validate_params
from pipeline.tools.studies.dvc_experiments import parse_yaml
from pipeline.tools.studies.recipe import compose, find_recipe, read_study
from pipeline.tools.studies.small import name_of_runs, small_study
from tests.support.recipes.tables import STUDIES
from tests.support.small_project import ROOT

LAST_ROWS = [(study, list(table)[-1]) for study, (_, table) in STUDIES.items()]  # the trial runs every row
SHRUNK = {
    "extract": {"max_frames"}, "split": {"counts"}, "model": {"weights"}, "image": {"size"},
    "train": {"epochs", "batch_size"},
}  # fmt: skip


@pytest.fixture
def studies(project: Project) -> Project:
    """A project with the recipes of the repository, and two recordings of two classes each."""
    shutil.copytree(ROOT / "recipes", project.recipes)
    film(project, 2)
    return project


def film(project: Project, n: int) -> None:
    for label in ("a", "b"):
        for number in range(n):
            path = project.raw / label / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def both(project: Project, study: str, row: str) -> tuple[Params, Params]:
    """The params of a row as a whole and in small."""
    recipe, path = read_study(study, project), find_recipe(study, project)
    own = project.params_yaml.read_text(encoding="utf-8")
    layers = [recipe.params, recipe.rows[row]]
    small = small_study(recipe.params, own, path, project).over(layers, own, path)
    texts = [compose(own, of_row, path)[0] for of_row in (layers, small)]
    whole, in_small = (validate_params(parse_yaml(text), path) for text in texts)
    return whole, in_small


@pytest.mark.parametrize(("study", "row"), LAST_ROWS)
def test_a_row_keeps_its_network_its_head_and_its_loss(studies: Project, study: str, row: str) -> None:
    whole, small = both(studies, study, row)
    assert (small.model.weights, small.image.size, small.train.epochs, small.train.batch_size) == ("none", 48, 2, 8)
    for section in ("extract", "augment", "split", "model", "image", "train", "evaluate"):
        before, after = getattr(whole, section).model_dump(), getattr(small, section).model_dump()
        changed = {name for name in before if before[name] != after[name]}
        assert changed <= SHRUNK.get(section, set()), section


def test_without_its_row_a_study_would_train_the_network_of_params_yaml(studies: Project) -> None:
    own = parse_yaml(studies.params_yaml.read_text(encoding="utf-8"))["model"]["arch"]
    for study in STUDIES:
        recipe = read_study(study, studies)
        assert "arch" not in recipe.params["model"]
        assert own not in {values["model"]["arch"] for values in recipe.rows.values()}


@pytest.mark.parametrize(
    ("study", "n_recordings", "counts"),
    [
        ("catsdogs", 27, None),  # too few to lose half of them
        ("catsdogs", 28, {"train": 8, "val": 2, "test": 4}),
        ("graphite", 28, {"train": 8, "val": 0, "test": 4}),  # this text has no validation side
        ("fish", 28, None),  # groups may hold many photos
    ],
)
def test_of_a_split_at_random_few_pictures_are_taken_where_there_are_plenty(
    studies: Project, study: str, n_recordings: int, counts: dict[str, int] | None
) -> None:
    film(studies, n_recordings)
    taken = both(studies, study, dict(LAST_ROWS)[study])[1].split.counts
    assert (taken and taken.model_dump()) == counts


def test_runs_in_small_have_names_of_their_own() -> None:
    assert name_of_runs("fish", small=False) == "fish"
    assert name_of_runs("fish", small=True) not in {path.stem for path in Path(ROOT / "recipes").glob("*.yaml")}
