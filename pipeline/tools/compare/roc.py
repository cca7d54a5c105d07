"""The ROC of a run as one curve, so that the rows of a study fit into one panel."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.base.errors import DataError
from pipeline.base.storage.csv_files import table_rows

N_POINTS = 201  # of the curve, at false positive rates from 0 to 1


def roc_curve(table: str | None, label: str) -> list[float]:
    """The true positive rates at `N_POINTS` false positive rates; empty where the run has no such table.

    With two classes this is the curve of the second one, since the other is its mirror image. With more it is the mean
    of the classes' curves.

    Args:
        table: the text of `reports/plots/roc.csv`. Its last curve pools all answers and is left out.
        label: the run and the table, for the message of an error.

    Raises:
        DataError: the table is not CSV, lacks a column, or has a rate that is no number.
    """
    rows = table_rows(io.StringIO(table or "", newline=""))
    try:
        points = [(row["class"], float(row["false_positive_rate"]), float(row["true_positive_rate"])) for row in rows]
    except (csv.Error, KeyError, ValueError) as error:
        expected = "expected numbers in the columns class, false_positive_rate, true_positive_rate"
        raise DataError(f"{label}: found a row without a rate ({error}); {expected}") from error
    if not points:
        return []
    *classes, _ = dict.fromkeys(name for name, _, _ in points)
    curves = [_true_positive_rates([(x, y) for name, x, y in points if name == shown]) for shown in _shown(classes)]
    mean: list[float] = np.mean(curves, axis=0).tolist() if curves else []
    return mean


def roc_area(evaluation: Mapping[str, Any]) -> float | None:
    """The area below the same curve, from a `reports/evaluate.json`; None where it is not known."""
    per_class = (evaluation.get("roc_auc") or {}).get("per_class") or {}
    areas = [per_class[name] for name in _shown(list(per_class)) if per_class[name] is not None]
    return float(np.mean(areas)) if areas else None


def _shown(classes: Sequence[str]) -> Sequence[str]:
    return classes[1:] if len(classes) == 2 else classes


def false_positive_rates() -> list[float]:
    """The rates that belong to the values of `roc_curve`."""
    rates: list[float] = np.linspace(0, 1, N_POINTS).tolist()
    return rates


def _true_positive_rates(points: list[tuple[float, float]]) -> list[float]:
    x, y = np.array(points).T
    rates = np.interp(false_positive_rates(), x, y)
    rates[0] = 0.0  # where the curve begins; it may rise at the rate 0
    curve: list[float] = rates.tolist()
    return curve
