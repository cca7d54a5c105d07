"""The few numbers by which `dvc metrics` and `dvc exp show` set runs beside one another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.base.files import read_json
from pipeline.base.project import Project

# Of `reports/evaluate.json`, which has hundreds: as columns nobody could read them.
_JUDGED = ("group_top1", "top1", "macro_f1", "auc", "nll", "ece", "baseline_knn")


def headline_numbers(value: Mapping[str, Any], project: Project) -> dict[str, Any]:
    """`test`, from what evaluate found, and the kept epoch's `train` and `val`, to choose by; null what there is not.

    Args:
        value: of `reports/evaluate.json`.
        project: whose `reports/train/metrics.json` has the epochs; without it, null.
    """
    path = project.train_reports / "metrics.json"
    trained = read_json(path) if path.is_file() else {}
    kept = trained.get("kept", {})
    low, high = value["group_top1_ci95"]
    return {
        "epoch": kept.get("epoch"),
        "minutes": trained.get("train", {}).get("minutes"),
        "train": {name: kept.get("train", {}).get(name) for name in ("loss", "accuracy")},
        "val": {name: kept.get("val", {}).get(name) for name in ("loss", "accuracy")},
        "test": {
            **{name: value[name] for name in _JUDGED},
            "group_top1_low": low,
            "group_top1_high": high,
            "optimistic": value["optimistic"] is not None,
        },
    }
