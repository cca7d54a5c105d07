"""The tables in `reports/plots/`, most of which `dvc plots` draws, and `reports/metrics.json` for `dvc metrics`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.base.files import read_json
from pipeline.base.manifest import SIDES
from pipeline.base.project import Project
from pipeline.base.storage.csv_files import write_csv
from pipeline.evaluate import clip_verdicts, metrics
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.predictions import Predictions
from runtime.answers import probabilities_of

Tables = dict[str, list[dict[str, Any]]]  # rows by the name of the table
Curves = dict[str, dict[str, list[float]]]  # by measure and side, a value per epoch

_MEASURES = ("loss", "accuracy")


def plot_tables(kept: Predictions, classes: Sequence[str]) -> Tables:
    """The points of every plot, and `verdicts`, which has a row per group."""
    truth, probabilities = kept.truth, kept.probabilities
    bins = {
        "uncalibrated": metrics.reliability(truth, probabilities_of(kept.logits, None)),
        "calibrated": metrics.reliability(truth, probabilities),
    }
    verdicts = clip_verdicts.group_verdicts(kept.groups, truth, probabilities)
    return {
        "confusion": [
            {"actual": classes[actual], "predicted": classes[predicted]}
            for actual, predicted in zip(truth, kept.predicted, strict=True)
        ],
        "roc": metrics.roc_points(truth, probabilities, classes),
        "precision_recall": metrics.precision_recall_points(truth, probabilities, classes),
        "reliability": [{"class": kind, **of_bin.to_json()} for kind, of_kind in bins.items() for of_bin in of_kind],
        "verdicts": [verdict.to_row(classes) for verdict in verdicts],
    }


def read_curves(folder: Path) -> Curves:
    """Read loss and accuracy of each side from the tables that DVCLive left in a folder; absent ones are left out."""
    curves: Curves = {}
    for name in _MEASURES:
        for side in SIDES:
            table = folder / side / f"{name}.tsv"
            if table.is_file():
                rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines(), delimiter="\t"))
                curves.setdefault(name, {})[side] = [float(row[name]) for row in rows]
    return curves


def curve_rows(curves: Curves) -> list[dict[str, Any]]:
    """A row per side and epoch, counted from 1; every measure must have the same sides and epochs."""
    return [
        {"side": side, "epoch": epoch} | {name: by_side[side][epoch - 1] for name, by_side in curves.items()}
        for side, values in next(iter(curves.values())).items()
        for epoch in range(1, len(values) + 1)
    ]


def write_tables(tables: Tables, folder: Path) -> None:
    """Write each table as a CSV file of its name."""
    for name, rows in tables.items():
        write_csv(folder / f"{name}.csv", chain([rows[0]], ([row[column] for column in rows[0]] for row in rows)))


def headline_numbers(evaluation: Evaluation, project: Project) -> dict[str, Any]:
    """The contents of `reports/metrics.json`: few enough numbers to be the columns of a table of runs.

    `test` is from the evaluation; `train`, `val`, `epoch` and `minutes` are those of the kept epoch, to choose by. They
    are null where `reports/train/metrics.json` does not have them, or is absent.
    """
    path = project.train_reports / "metrics.json"
    trained = read_json(path) if path.is_file() else {}
    kept_epoch = trained.get("kept", {})
    return {
        "epoch": kept_epoch.get("epoch"),
        "minutes": trained.get("train", {}).get("minutes"),
        "train": {name: kept_epoch.get("train", {}).get(name) for name in _MEASURES},
        "val": {name: kept_epoch.get("val", {}).get(name) for name in _MEASURES},
        "test": {
            "group_top1": evaluation.groups.top1,
            "top1": evaluation.frames.top1,
            "macro_f1": evaluation.frames.macro_f1,
            "auc": evaluation.auc.value,
            "nll": evaluation.frames.errors.nll,
            "ece": evaluation.frames.errors.ece,
            "baseline_knn": evaluation.baselines.knn.value,
            "group_top1_low": evaluation.groups.interval.low,
            "group_top1_high": evaluation.groups.interval.high,
            "optimistic": evaluation.optimistic is not None,
        },
    }
