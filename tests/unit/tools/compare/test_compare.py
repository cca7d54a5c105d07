"""A comparison counts successful runs only, says where their numbers come from, and ranks nothing."""

from __future__ import annotations

import json
import re

import pytest

from pipeline.base.errors import DataError, ParamsError
from pipeline.base.project import Project
from pipeline.tools.compare.compare import compare_all, compare_study
from pipeline.tools.studies.dvc_experiments import list_experiments
from pipeline.tools.studies.study import experiment_names
from tests.support.command import run_pipe
from tests.support.compared_runs import EVALUATION, LOSSES, RECIPE, compared_table, reports
from tests.support.experiment_project import plant_experiment, run, write_recipe


def test_the_same_experiments_give_the_same_bytes(project: Project) -> None:
    plant_experiment(project, "tiny-鳞片-a", reports({"train/loss": LOSSES}, top5=None, top5_reason="few"))
    plant_experiment(project, "tiny-b", reports({"train/loss": LOSSES}), lr=0.2)
    write_recipe(project, RECIPE.format(columns="top1, top5, train_loss"))
    written = []
    for _ in range(2):  # in processes of their own: with other seeds of Python's hashes
        finished = run_pipe(project.root, "compare", "tiny")
        assert finished.returncode == 0, finished.stderr
        written.append({path.name: path.read_bytes() for path in (project.compare_reports / "tiny").iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) == {"table.md", "table.csv", "table.tex", "figures.tex", "figure_1.png", "figure_1.pdf"}


def test_without_a_name_every_experiment_is_a_row(project: Project) -> None:
    plant_experiment(project, "tiny-b", reports({"train/loss": LOSSES}))
    plant_experiment(project, "lucky-name", reports({}, mse=0.5))
    finished = run_pipe(project.root, "compare")
    assert finished.returncode == 0, finished.stderr
    assert "compared 2 runs in 2 rows; reports/compare/experiments/table.md" in finished.stdout
    text = (project.compare_reports / "experiments" / "table.md").read_text(encoding="utf-8")
    assert "| row | runs | top1 | group_top1 | group_top1_low | group_top1_high | mse | train_loss | minutes |" in text
    assert "| lucky-name | 1 | 87.5 % | 100.0 % |  |  | 0.5000 |  |  |" in text


def test_a_report_that_the_run_did_not_write_is_not_counted(project: Project) -> None:
    plant_experiment(project, "tiny-鳞片-a", reports({}))
    plant_experiment(project, "tiny-b", reports({}), lr=0.2)
    (project.root / "reports").mkdir(exist_ok=True)
    experiment = list_experiments(project)["tiny-b"]
    run(project.root, "git", "checkout", "--quiet", "--detach", experiment.commit)
    (project.root / "reports" / "evaluate.json").write_text(json.dumps(EVALUATION | {"top1": 1.0}), encoding="utf-8")
    run(project.root, "git", "commit", "--quiet", "--all", "-m", "a better number")
    run(project.root, "git", "update-ref", experiment.ref, "HEAD")
    run(project.root, "git", "checkout", "--quiet", "-")
    text, _ = compared_table(project, "top1")
    assert "| b | not run |" in text
    assert "tiny-b is not counted: reports/evaluate.json is not the one that `evaluate` wrote." in text


def test_a_recipe_that_has_changed_since_is_reported(project: Project) -> None:
    plant_experiment(project, "tiny-b", reports({}), lr=0.5)
    text, _ = compared_table(project, "top1")
    assert "tiny-b ran with another train.lr than the recipe has now." in text
    plant_experiment(project, "tiny-b", reports({}), lr=0.2)
    assert "ran with another" not in compared_table(project, "top1")[0]


@pytest.mark.parametrize(("lr", "is_noted"), [(0.2, False), (0.3, True)])
def test_a_study_in_small_may_take_fewer_pictures_than_its_row(project: Project, lr: float, is_noted: bool) -> None:
    text = project.params_yaml.read_text(encoding="utf-8")
    taken = re.sub(r"(?m)^  counts: null", "  counts: {train: 8, val: 0, test: 4}", text)
    assert taken != text
    project.params_yaml.write_text(taken, encoding="utf-8")
    plant_experiment(project, _small_name("b"), reports({}), lr=lr)
    row = "train: {{lr: 0.2}}"
    counting = RECIPE.replace(row, f"{row}, split: {{{{counts: {{{{train: 9, val: 0, test: 5}}}}}}}}")
    write_recipe(project, counting.format(columns="top1"))
    write_recipe(project, "params: {split: {counts: null}}\n", "small")
    compare_study("tiny", project, small=True)
    page = (project.compare_reports / "tiny.small" / "table.md").read_text(encoding="utf-8")
    assert ("ran with another train.lr than" in page) == is_noted
    assert "split.counts" not in page


def test_every_caption_of_a_study_in_small_says_that_its_numbers_mean_nothing(project: Project) -> None:
    for name in ("tiny-b", _small_name("b")):
        plant_experiment(project, name, reports({"train/loss": LOSSES}), lr=0.2)
    titled = RECIPE.replace("compare:\n", "compare:\n  caption: Table 1 of the paper\n")
    titled = titled.replace("title: figure 2,", "title: figure 2, caption: The loss of the paper,")
    titled = titled.replace("val/mse", "train/loss")
    write_recipe(project, titled.format(columns="top1"))
    write_recipe(project, "params: {}\n", "small")
    captions = {}
    for small in (False, True):
        compare_study("tiny", project, small=small)
        folder = project.compare_reports / ("tiny.small" if small else "tiny")
        tex = "".join((folder / f"{name}.tex").read_text(encoding="utf-8") for name in ("table", "figures"))
        captions[small] = re.findall(r"\\caption\{(.*)\}", tex)
    assert captions[False] == ["Table 1 of the paper", r"figure 1: \$鳞片\$", "The loss of the paper"]
    assert captions[True] == [f"{caption} (in small: its numbers mean nothing)" for caption in captions[False]]


def _small_name(row: str) -> str:
    return experiment_names("tiny.small", ["鳞片 | a", "b"])[row]


def test_small_without_a_study_is_refused(project: Project) -> None:
    finished = run_pipe(project.root, "compare", "--small")
    assert finished.returncode == 2
    assert "name the study that --small belongs to" in finished.stderr


def test_runs_of_an_earlier_commit_are_found_and_the_commits_named(project: Project) -> None:
    plant_experiment(project, "tiny-b", reports({}), lr=0.2)
    assert "different commits" not in compared_table(project, "top1")[0]
    run(project.root, "git", "commit", "--quiet", "--allow-empty", "-m", "later")
    plant_experiment(project, "tiny-鳞片-a", reports({}))
    text, _ = compared_table(project, "top1")
    assert "not run" not in text.split("## figure")[0]
    assert "- The runs were started from different commits: " in text


def test_nothing_to_compare_is_an_error_and_writes_nothing(project: Project) -> None:
    with pytest.raises(DataError, match=r"tiny\.yaml: no row has run; pipe study tiny runs them"):
        compare_study("tiny", project)
    with pytest.raises(DataError, match="no experiments"):
        compare_all(project)
    assert not project.compare_reports.exists()


def test_a_recipe_that_asks_for_no_comparison_says_so(project: Project) -> None:
    write_recipe(project, "params: {}\nrows: {a: {}}\n", "silent")
    with pytest.raises(ParamsError, match="no mapping `compare:`"):
        compare_study("silent", project)
