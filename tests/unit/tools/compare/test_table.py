"""The table of a comparison, and the notes that say how to read it."""

from __future__ import annotations

import pytest

from pipeline.base.project import Project
from tests.support.compared_runs import LOSSES, compared_table, reports
from tests.support.experiment_project import plant_experiment


def test_seeds_become_mean_and_deviation(project: Project) -> None:
    for seed, top1 in enumerate((0.5, 0.75, 1.0)):
        plant_experiment(project, f"tiny-b-s{seed}", reports({"train/loss": LOSSES}, top1=top1), lr=0.2, seed=seed)
    text, rows = compared_table(project, "top1, group_top1, train.seed")
    assert "| b | 3 | 75.0 ± 25.0 % | 100.0 % | 1.0 ± 1.0 |" in text
    assert (rows["b"]["runs"], rows["b"]["top1"], rows["b"]["top1_sd"]) == ("3", "0.75", "0.25")
    assert "± is the standard deviation between seeds" in text
    assert "| 鳞片 \\| a | not run |  |  |  |" in text


def test_one_run_has_no_deviation(project: Project) -> None:
    plant_experiment(project, "tiny-b", reports({}), lr=0.2)
    text, rows = compared_table(project, "top1")
    assert "| b | 1 | 87.5 % |" in text
    assert rows["b"]["top1_sd"] == ""
    assert "±" not in text


def test_an_absent_value_is_empty_and_its_reason_stands_below(project: Project) -> None:
    plant_experiment(project, "tiny-b", reports({}, top5=None, top5_reason="fewer than 6 classes"), lr=0.2)
    text, rows = compared_table(project, "top5, parameters, test_loss, stability_acc")
    assert "| b | 1 |  |  |  |  |" in text
    assert rows["b"]["top5"] == ""
    assert "- All rows: no top5: fewer than 6 classes." in text
    assert "no parameters: the run has no reports/train/network.json." in text
    assert "no test_loss: the run has no curve test/loss." in text


def test_the_table_says_on_what_it_was_measured_and_whether_it_flatters(project: Project) -> None:
    plant_experiment(project, "tiny-鳞片-a", reports({}))
    text, _ = compared_table(project, "top1")
    assert "- All rows: judged on 40 test frames of 4 clips or photos, protocol grouped; no known reason" in text
    plant_experiment(project, "tiny-b", reports({}, optimistic="one clip per class", n_frames=39), lr=0.2)
    text, _ = compared_table(project, "top1")
    assert "- 鳞片 \\| a: judged on 40 test frames" in text
    assert (
        "- b: judged on 39 test frames of 4 clips or photos, protocol grouped; optimistic: one clip per class." in text
    )


@pytest.mark.parametrize("columns", ["train_loss", "stability_loss", "top1"])
def test_training_losses_that_are_not_the_same_quantity_must_not_be_ranked(project: Project, columns: str) -> None:
    plant_experiment(project, "tiny-鳞片-a", reports({"train/loss": LOSSES}))
    text, _ = compared_table(project, columns)
    assert "do not rank" not in text
    focal = project.params_yaml.read_text(encoding="utf-8")
    loss = "loss: {name: cross_entropy, label_smoothing: 0.0, balanced: false}"
    assert loss in focal
    project.params_yaml.write_text(focal.replace(loss, "loss: {name: focal, gamma: 0.25, alpha: null}"), "utf-8")
    plant_experiment(project, "tiny-b", reports({"train/loss": LOSSES}), lr=0.2)
    text, _ = compared_table(project, columns)
    of_table, of_figure = text.split("## figure 1")
    warning = "the rows were trained with different losses, do not rank them by it"
    assert (warning in of_table) == (columns != "top1")
    listed = (
        r"(name cross\_entropy, label\_smoothing 0.0, balanced False: 鳞片 \| a; name focal, gamma 0.25, alpha null: b)"
    )
    assert listed in of_figure
    assert f"train/loss: {warning}" in of_figure  # its curves are drawn over one another


@pytest.mark.parametrize(
    ("loss", "shown"),
    [
        (0.0, "0.0000"), (0.0036, "0.0036"), (0.0005, "0.0005"), (0.00012345, "0.000123"), (0.000036, "3.6e-05"),
        (32.1797, "32.1797"), (171190182656.0, "1.71e+11"),
    ],
)  # fmt: skip
def test_numbers_too_small_or_too_large_for_four_digits_have_three(loss: float, shown: str, project: Project) -> None:
    plant_experiment(project, "tiny-b", reports({"train/loss": [1.0, loss]}))
    text, rows = compared_table(project, "train_loss")
    assert f"| b | 1 | {shown} |" in text
    assert float(rows["b"]["train_loss"]) == loss
