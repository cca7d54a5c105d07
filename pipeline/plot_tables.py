"""The tables that `dvc plots` draws, and a row per clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline import metrics, ranking, verdicts
from pipeline.base.files import write_csv
from pipeline.judging import Judged

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
        "roc": ranking.roc_points(truth, probabilities, classes),
        "precision_recall": ranking.precision_recall_points(truth, probabilities, classes),
        "reliability": [{"class": "uncalibrated", **one} for one in before]
        + [{"class": "calibrated", **one} for one in after],
        "verdicts": [one.as_row(classes) for one in verdicts.group_verdicts(groups, truth, probabilities)],
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
