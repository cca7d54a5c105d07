"""The trial of every row notices a row that fails, one that trained something else, and one that no comparison has.

The trial itself is `tests/trials/every_row.py`; it runs each row of each study, which takes long.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.base.project import Project
from pipeline.tools.studies.recipe import read_study
from tests.support.compared_runs import reports
from tests.support.experiment_project import commit, experiment_project, plant_experiment, write_recipe
from tests.support.small_project import ROOT, set_params
from tests.trials import every_row
from tests.trials.every_row import Outcome, comparison_faults, faults_of, run_of, run_rows

RECIPE = """
params: {train: {watch_test: true, test_called: test}}
rows:
  sound: {train: {lr: 0.1}}
  ill: {train: {momentum: 0.5}}
compare:
  columns: [top1, train_loss]
  figures: [{title: of sound, curves: [train/loss], rows: [sound]}]
"""
CURVES = {"train/loss": [1.0, 0.5], "test/loss": [1.5, 1.0]}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose recordings lie in classes, with the overlay and a study of two rows."""
    project = experiment_project(tmp_path / "project")
    (project.raw / "clip.mp4").unlink()
    for label in ("a", "b"):
        (project.raw / label).mkdir()
        (project.raw / label / "clip.mp4").write_text(label, encoding="utf-8")
    write_recipe(project, RECIPE)
    shutil.copy(ROOT / "recipes" / "small.yaml", project.recipes)
    return project


def test_a_row_that_fails_ends_the_trial_with_1(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(every_row, "clone_of_repository", lambda _: project)
    monkeypatch.setattr(every_row, "CLASSES", {"tiny": 0})
    assert every_row.main(project.root, ["tiny"], []) == 1
    sound, ill, *faults = capsys.readouterr().out.splitlines()[2:]
    assert sound.startswith("| tiny | sound | efficientnet_lite0, linear | 2 | passed | ")
    assert ill.startswith("| tiny | ill |  |  | **failed**: study tiny: 1 of 1 runs failed: tiny.small-ill: train: ")
    assert "the loss of epoch 1 is inf; lower train.lr" in ill
    assert faults[0] == "FAULT tiny: the table lacks ill"
    assert faults[1].startswith("1 of 2 rows failed, 1 faults of comparisons, ")
    assert comparison_faults("tiny", ["sound"], project) == []


@pytest.mark.parametrize(
    ("planted", "fault"),
    [
        ({}, None),
        ({"arch": "vgg16"}, "ran with model.arch efficientnet_lite0, and the recipe has vgg16"),
        ({"train/loss": [1.0]}, "trained for 1 epochs, and recipes/small.yaml has 2"),
        ({"train/loss": []}, "trained for 0 epochs, and recipes/small.yaml has 2"),
        ({"test/loss": []}, "no curve of the test side"),
        ({"top1": None}, "top1 is None"),
        ({"top1": 1.5}, "top1 is 1.5"),
    ],
)
def test_a_run_that_is_not_what_its_row_says_is_noticed(
    project: Project, planted: dict[str, object], fault: str | None
) -> None:
    curves = {name: planted.get(name, values) for name, values in CURVES.items()}
    numbers = {"top1": planted["top1"]} if "top1" in planted else {}
    write_recipe(
        project, f"params: {{}}\nrows: {{sound: {{model: {{arch: {planted.get('arch', 'efficientnet_lite0')}}}}}}}\n"
    )
    commit(project.root)  # a planted experiment takes the workspace back to this
    set_params(project, train={"watch_test": True, "epochs": 2})
    plant_experiment(project, "tiny.small-sound", reports({name: of for name, of in curves.items() if of}, **numbers))
    recipe = read_study("tiny", project)
    run = run_of("tiny", recipe, "sound", project)
    assert run is not None
    assert list(faults_of(run, recipe, "sound")) == ([fault] if fault else [])


def test_rows_that_are_the_same_in_small_are_told_apart_from_rows_that_trained(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_recipe(project, "params: {}\nrows: {five: {train: {epochs: 5}}, ten: {train: {epochs: 10}}}\n")
    commit(project.root)

    def run_in_small(name: str, rows: list[str], seeds: int, project: Project, *, small: bool) -> None:
        assert (name, seeds, small) == ("tiny", 1, True)
        plant_experiment(project, f"tiny.small-{rows[0]}", reports(CURVES))

    monkeypatch.setattr(every_row, "study", run_in_small)
    assert [outcome.same_as for outcome in run_rows("tiny", [], project)] == [None, "five"]


def test_a_row_without_an_experiment_fails(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(every_row, "study", lambda *_, **__: None)
    assert [outcome.faults for outcome in run_rows("tiny", ["sound"], project)] == [("no experiment",)]


def test_a_line_of_the_table_keeps_its_cells() -> None:
    assert Outcome("tiny", "a | b", "vgg16, fc", 2, ("c | d",), 1.6).line.count(" | ") == 5
