"""Columns of a comparison hold what the reports of a run say."""

from __future__ import annotations

import pytest

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.tools.compare import columns as columns_of_runs
from pipeline.tools.studies.recipe_schema import CURVES
from tests.support.compared_runs import LOSSES, compared_table, reports
from tests.support.experiment_project import plant_experiment


def test_every_column_is_what_its_report_says(project: Project) -> None:
    network = {
        "n_parameters": 1234567, "n_trained_parameters": 1000, "n_layers": 16, "has_batch_norm": False,
        "has_residual": True,
    }  # fmt: skip
    curves = {
        "train/loss": LOSSES,
        "test/loss": [1.5, 0.75, 0.75],
        "train/accuracy": [0.5, 0.75, 1.0],
        "test/accuracy": [0.5, 0.875, 0.875],
        "train/minutes": [0.5, 1.0, 1.75],
        "train/caching_minutes": [0.25, 0.25, 0.375],
    }
    evaluation = {"auc": 0.9, "mse": 0.2, "nll": 0.3, "top5": 1.0, "group_top1_ci95": [0.4, 1.0]}
    plant_experiment(project, "tiny-鳞片-a", reports(curves, network, **evaluation))
    columns = (
        "parameters, trained_parameters, layers, batch_norm, residual, top1, top5, group_top1, group_top1_low, "
        "group_top1_high, auc, mse, nll, train_loss, test_loss,"
        " minutes, caching_minutes, best_accuracy, best_epoch, stability_loss, stability_acc, train.lr, train.loss"
    )
    _, rows = compared_table(project, columns)
    values = {name: value for name, value in rows["鳞片 | a"].items() if not name.endswith("_sd")}
    assert values == {
        "row": "鳞片 | a", "runs": "1", "parameters": "1234567", "trained_parameters": "1000", "layers": "16",
        "batch_norm": "False", "residual": "True", "top1": "0.875", "top5": "1.0", "group_top1": "1.0",
        "group_top1_low": "0.4", "group_top1_high": "1.0", "auc": "0.9",
        "mse": "0.2", "nll": "0.3", "train_loss": "0.25", "test_loss": "0.75", "minutes": "1.75",
        "caching_minutes": "0.375",
        "best_accuracy": "0.875", "best_accuracy_side": "test", "best_epoch": "2", "best_epoch_side": "test",
        "stability_loss": str((0.5 + 0.25 + 0.5) / 3), "stability_acc": str((0 + 0.125 + 0.125) / 3),
        "train.lr": "0.1", "train.loss": "name cross_entropy, label_smoothing 0.0, balanced False",
    }  # fmt: skip


def test_every_column_of_a_last_epoch_has_a_curve_that_is_read() -> None:
    assert set(columns_of_runs._LAST_OF_CURVE.values()) <= set(CURVES)


def test_the_best_epoch_is_that_of_validation_where_no_test_curve_is(project: Project) -> None:
    plant_experiment(project, "tiny-b", reports({"val/accuracy": [0.5, 0.25]}), lr=0.2)
    text, rows = compared_table(project, "best_accuracy, best_epoch")
    assert (rows["b"]["best_accuracy"], rows["b"]["best_epoch"]) == ("0.5", "1")
    assert rows["b"]["best_accuracy_side"] == "val"
    assert "| b | 1 | 50.0 % (val) | 1 (val) |" in text
    assert "flatters" not in text


def test_the_best_of_all_test_epochs_is_marked_as_such(project: Project) -> None:
    plant_experiment(project, "tiny-b", reports({"test/accuracy": [0.5, 0.75], "val/accuracy": [1.0, 0.5]}), lr=0.2)
    text, rows = compared_table(project, "best_accuracy, best_epoch")
    assert "| b | 1 | 75.0 % (test) | 2 (test) |" in text
    assert rows["b"]["best_accuracy_side"] == "test"
    assert "- best_accuracy and best_epoch with (test): the best epoch was looked up on the test clips" in text


def test_validation_comes_first_and_a_row_without_it_says_so(project: Project) -> None:
    kept = {"epoch": 2, "val": {"accuracy": 0.75, "loss": 0.5}}
    plant_experiment(project, "tiny-b", reports({}, kept=kept), lr=0.2)
    plant_experiment(project, "tiny-鳞片-a", reports({}, kept={"epoch": 2, "train": {"loss": 0.1}}))
    text, rows = compared_table(project, "top1, train.lr")
    assert "| row | runs | val_accuracy | val_loss | top1 | train.lr |" in text
    assert "| b | 1 | 75.0 % | 0.5000 | 87.5 % | 0.2 |" in text
    assert rows["b"]["val_accuracy"] == "0.75"
    assert "- Choose a row by val_accuracy and val_loss." in text
    assert "a: no val_accuracy: the run has no validation clips and no folds." in text


def test_numbers_out_of_fold_come_first_where_folds_judged_every_row(project: Project) -> None:
    folds = {"estimate": "folds", "auc": 0.5}
    plant_experiment(project, "tiny-b", reports({}, kept={"val": {"accuracy": 0.75, "loss": 0.5}}, **folds), lr=0.2)
    text, _ = compared_table(project, "train.lr, auc, train.epochs, top1")
    assert "| row | runs | val_accuracy | val_loss | auc | top1 | train.lr | train.epochs |" in text
    assert "- Folds judged every row" in text
    assert "judged on 40 frames out of fold, of 4 clips" in text
    plant_experiment(project, "tiny-鳞片-a", reports({}))  # the negative control: a test side judged this one
    text, _ = compared_table(project, "train.lr, auc, train.epochs, top1")
    assert "| row | runs | val_accuracy | val_loss | train.lr | auc |" in text


def test_a_table_of_test_clips_alone_says_so(project: Project) -> None:
    plant_experiment(project, "tiny-b", reports({}), lr=0.2)
    note = "- No row has validation clips or folds. Whoever chooses a row by this table trains on the test clips."
    for columns in ("top1", "top1, val_accuracy"):  # a column that is asked for does not make validation clips
        text, _ = compared_table(project, columns)
        assert note in text
        assert "Choose a row by val_accuracy" not in text


def test_a_curve_that_is_no_number_is_refused(project: Project) -> None:
    files = reports({"train/loss": LOSSES})
    path = "reports/train/plots/metrics/train/loss.tsv"
    plant_experiment(project, "tiny-b", files | {path: files[path].replace("0.25", "nan")}, lr=0.2)
    with pytest.raises(DataError, match="tiny-b: train/loss: a value of the curve is not finite"):
        compared_table(project, "train_loss")
