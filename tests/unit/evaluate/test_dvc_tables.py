"""The tables that DVC draws, and the few numbers that it makes the columns of a table of runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from pipeline.base.files import read_json, write_json
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.draw.sheets import write_jpeg, write_png
from pipeline.evaluate.dvc_tables import curve_rows, plot_tables, read_curves, write_tables
from pipeline.evaluate.params import EvaluateParams
from pipeline.evaluate.predictions import Predictions
from pipeline.evaluate.stage import evaluate
from pipeline.network.embeddings import Embeddings
from runtime.answers import probabilities_of
from tests.support.small_project import COLOURS, ROOT

MEASURES = ("loss", "accuracy")
MOST_COLUMNS = 20


def columns(value: Any, name: str = "") -> dict[str, Any]:
    """The columns that DVC makes: every leaf that is a number or a text; DVC leaves lists and nulls out."""
    if isinstance(value, dict):
        parts = [columns(part, f"{name}.{key}" if name else key) for key, part in value.items()]
        return {key: leaf for part in parts for key, leaf in part.items()}
    return {name: value} if isinstance(value, (int, float, str)) else {}


def is_readable(table: dict[str, Any]) -> bool:
    return len(table) <= MOST_COLUMNS and not any(isinstance(cell, str) for cell in table.values())


def test_runs_are_set_beside_one_another_by_a_few_numbers(exported: Project) -> None:
    listed = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["metrics"]
    assert [exported.root / name for name in listed] == [exported.metrics_json]
    table = columns(read_json(exported.metrics_json))
    assert is_readable(table)
    assert not is_readable(columns(read_json(exported.evaluate_json)))  # the negative control: hundreds, and sentences
    assert set(table) >= {"test.group_top1", "test.group_top1_low", "test.group_top1_high", "val.accuracy", "epoch"}


def test_the_numbers_are_those_of_the_reports_and_of_the_epoch_that_was_kept(exported: Project) -> None:
    table, value = columns(read_json(exported.metrics_json)), read_json(exported.evaluate_json)
    trained = read_json(exported.train_reports / "metrics.json")
    assert [table["test.group_top1_low"], table["test.group_top1_high"]] == value["group_top1_ci95"]
    assert table["test.optimistic"] is (value["optimistic"] is not None)
    for name in ("group_top1", "top1", "macro_f1", "auc", "nll", "ece"):
        assert table[f"test.{name}"] == value[name]
    for side in ("train", "val"):
        assert table[f"{side}.loss"] == trained["kept"][side]["loss"]
    assert (table["epoch"], table["minutes"]) == (trained["kept"]["epoch"], trained["train"]["minutes"])


def test_without_the_reports_of_training_only_the_test_has_numbers(exported: Project) -> None:
    write_json(exported.split_json, {"protocol": "grouped", "optimistic": "one photograph per class"})
    (exported.train_reports / "metrics.json").unlink()
    evaluate(read_section(exported.params_yaml, "evaluate", EvaluateParams), exported)
    table = columns(read_json(exported.metrics_json))
    assert all(name.startswith("test.") for name in table)
    assert table["test.optimistic"] is True


def test_dvc_draws_every_plot_that_dvc_yaml_lists(project: Project) -> None:
    logits = np.array([[2, 0], [0, 1], [1, 0], [0, 0.5]], dtype=np.float32)
    classes, truth = list(COLOURS), np.array([0, 1, 1, 0])
    rows = [
        Row(f"{i}.jpg", classes[of_class], f"{i}", "", f"{i}", width=1, height=1) for i, of_class in enumerate(truth)
    ]
    project.plots.mkdir(parents=True)
    write_tables(
        plot_tables(
            Predictions(
                rows, truth, logits, logits.max(axis=1), probabilities_of(logits, 2.0), Embeddings(list(logits))
            ),
            classes,
        ),
        project.plots,
    )
    write_tables(
        {"curves": curve_rows({name: {"train": [1.0, 0.5], "val": [1.0, 0.7]} for name in MEASURES})}, project.plots
    )
    pictures = {"features.png", "per_class.png", "least_sure.jpg", "mistakes.jpg", "montage.jpg"}
    for name in pictures:
        (write_jpeg if name.endswith("jpg") else write_png)(np.zeros((8, 8, 3), np.uint8), project.plots / name)
    plots = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    YAML().dump({"plots": plots}, project.root / "dvc.yaml")
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run(["git", "init", "-q"], cwd=project.root, check=True)
    subprocess.run([*dvc, "init", "-q"], cwd=project.root, check=True)
    shutil.copytree(ROOT / ".dvc" / "plots", project.root / ".dvc" / "plots")
    finished = subprocess.run(
        [*dvc, "plots", "show", "--json"], cwd=project.root, check=True, capture_output=True, text=True
    )
    drawn = json.loads(finished.stdout)
    assert "errors" not in drawn
    tables = {*MEASURES, "confusion", "roc", "precision_recall", "reliability"}
    assert set(drawn["data"]) == tables | {f"reports/plots/{name}" for name in pictures}
    series = {name: ("side", {"train", "val"}) for name in MEASURES} | {
        "roc": ("class", {*COLOURS, "all classes (micro)"}),
        "reliability": ("class", {"calibrated", "uncalibrated"}),
    }
    for name, (field, values) in series.items():
        (plot,) = drawn["data"][name]
        assert plot["content"]["encoding"]["color"]["field"] == field
        assert {point[field] for point in plot["content"]["data"]["values"]} == values
    curve = drawn["data"]["roc"][0]["content"]
    # DVC reads a table's cells as texts, of which "10" comes before "2": a line would run to and fro.
    assert {type(point["point"]) for point in curve["data"]["values"]} == {str}
    assert curve["transform"] == [{"calculate": "toNumber(datum.point)", "as": curve["encoding"]["order"]["field"]}]
    titles = {name: drawn["data"][name][0]["content"]["title"]["text"] for name in tables}
    assert not {name for name, title in titles.items() if title == name}  # each says more than its file does


def test_dvc_can_draw_the_confusion_matrix(exported: Project) -> None:
    lines = (exported.plots / "confusion.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "actual,predicted"
    assert {line.split(",")[0] for line in lines[1:]} == set(COLOURS)


def test_curves_are_read_from_what_training_wrote_and_other_tables_are_left_alone(tmp_path: Path) -> None:
    for side, name in (("train", "loss"), ("val", "accuracy"), ("train", "lr")):
        (tmp_path / side).mkdir(exist_ok=True)
        (tmp_path / side / f"{name}.tsv").write_text(f"step\t{name}\n0\t0.5\n1\t0.25\n")
    assert read_curves(tmp_path) == {"loss": {"train": [0.5, 0.25]}, "accuracy": {"val": [0.5, 0.25]}}
    assert read_curves(tmp_path / "absent") == {}
