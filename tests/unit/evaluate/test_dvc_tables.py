"""What `dvc metrics` and `dvc exp show` have columns of: a few numbers, and no sentence."""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML

from pipeline.base.files import read_json
from pipeline.base.project import Project
from pipeline.evaluate.dvc_tables import headline_numbers
from tests.support.small_project import ROOT

MOST_COLUMNS = 20


def columns(value: Any, name: str = "") -> dict[str, Any]:
    """What DVC makes a column of: every leaf that is a number or a text; lists and nulls it leaves out."""
    if isinstance(value, dict):
        below = [columns(one, f"{name}.{key}" if name else key) for key, one in value.items()]
        return {key: one for each in below for key, one in each.items()}
    return {name: value} if isinstance(value, (int, float, str)) else {}


def is_readable(found: dict[str, Any]) -> bool:
    return len(found) <= MOST_COLUMNS and not any(isinstance(one, str) for one in found.values())


def test_runs_are_set_beside_one_another_by_a_few_numbers(exported: Project) -> None:
    listed = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["metrics"]
    assert [exported.root / name for name in listed] == [exported.metrics_json]
    found = columns(read_json(exported.metrics_json))
    assert is_readable(found)
    assert not is_readable(columns(read_json(exported.evaluate_json)))  # the negative control: hundreds, and sentences
    assert set(found) >= {"test.group_top1", "test.group_top1_low", "test.group_top1_high", "val.accuracy", "epoch"}


def test_the_numbers_are_those_of_the_reports_and_of_the_epoch_that_was_kept(exported: Project) -> None:
    found, value = columns(read_json(exported.metrics_json)), read_json(exported.evaluate_json)
    trained = read_json(exported.train_reports / "metrics.json")
    assert [found["test.group_top1_low"], found["test.group_top1_high"]] == value["group_top1_ci95"]
    assert found["test.optimistic"] is (value["optimistic"] is not None)
    for name in ("group_top1", "top1", "macro_f1", "auc", "nll", "ece"):
        assert found[f"test.{name}"] == value[name]
    for side in ("train", "val"):
        assert found[f"{side}.loss"] == trained["kept"][side]["loss"]
    assert (found["epoch"], found["minutes"]) == (trained["kept"]["epoch"], trained["train"]["minutes"])


def test_without_the_reports_of_training_only_the_test_has_numbers(exported: Project) -> None:
    value = read_json(exported.evaluate_json) | {"optimistic": "one photograph per class"}
    (exported.train_reports / "metrics.json").unlink()
    found = columns(headline_numbers(value, exported))
    assert all(name.startswith("test.") for name in found)
    assert found["test.optimistic"] is True
