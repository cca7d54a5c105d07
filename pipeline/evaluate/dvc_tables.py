"""The tables that `dvc plots` draws, and a row per clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.base.files import read_json, write_csv
from pipeline.base.project import Project
from pipeline.evaluate import clip_verdicts, metrics
from pipeline.evaluate.metrics import precision_recall_points, roc_points
from pipeline.evaluate.predictions import Judged

Tables = dict[str, list[dict[str, Any]]]


def plot_tables(kept: Judged, classes: Sequence[str]) -> Tables:
    """The points of every plot by its name, and `verdicts`, a row per clip."""
    truth, probabilities, groups = kept.truth, kept.probabilities, [row.group for row in kept.rows]
    predicted = probabilities.argmax(axis=1)
    before = metrics.reliability(truth, metrics.probabilities_of(kept.logits, None))
    after = metrics.reliability(truth, probabilities)
    return {
        "confusion": [
            {"actual": classes[true], "predicted": classes[said]} for true, said in zip(truth, predicted, strict=True)
        ],
        "roc": roc_points(truth, probabilities, classes),
        "precision_recall": precision_recall_points(truth, probabilities, classes),
        "reliability": [{"class": "uncalibrated", **one} for one in before]
        + [{"class": "calibrated", **one} for one in after],
        "verdicts": [one.as_row(classes) for one in clip_verdicts.group_verdicts(groups, truth, probabilities)],
    }


def curve_rows(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> list[dict[str, Any]]:
    """A row per side and epoch, counted from 1: values by measure and side, which are as long for each measure."""
    return [
        {"side": side, "epoch": epoch} | {name: by_side[side][epoch - 1] for name, by_side in curves.items()}
        for side, values in next(iter(curves.values())).items()
        for epoch in range(1, len(values) + 1)
    ]


def write_tables(tables: Tables, folder: Path) -> None:
    """Write each as a CSV file of its name."""
    for name, rows in tables.items():
        write_csv(folder / f"{name}.csv", chain([rows[0]], ([row[column] for column in rows[0]] for row in rows)))


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
