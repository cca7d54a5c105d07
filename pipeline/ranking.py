"""How well probabilities rank frames: ROC and precision-recall, every class against the rest, micro and macro."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

POINTS_PER_CURVE = 200  # that are drawn; areas are of all of them


@dataclass(frozen=True)
class Areas:
    """The area under one kind of curve: of each class against the rest, their mean, and of all answers pooled."""

    per_class: dict[str, float | None]  # None where a class has no frame, or all of them
    macro: float | None  # None where a class has none
    micro: float

    def as_json(self) -> dict[str, Any]:
        """Plain values by the names of the fields."""
        return {"macro": self.macro, "micro": self.micro, "per_class": self.per_class}


def roc_areas(truth: Integers, probabilities: Floats, classes: Sequence[str]) -> Areas:
    """Areas under the ROC curves: truth (n,) class numbers, probabilities (n, classes)."""
    return _areas(truth, probabilities, classes, sklearn_metrics.roc_auc_score)


def precision_recall_areas(truth: Integers, probabilities: Floats, classes: Sequence[str]) -> Areas:
    """Average precision: the area under the precision-recall steps, which straight lines between points overstate."""
    return _areas(truth, probabilities, classes, sklearn_metrics.average_precision_score)


def roc_points(truth: Integers, probabilities: Floats, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Points of the ROC curves by class, and of the pooled answers as `micro`, for drawing."""

    def curve(is_class: NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
        false_positive_rate, true_positive_rate, _ = sklearn_metrics.roc_curve(is_class, scores)
        return false_positive_rate, true_positive_rate

    return _points(truth, probabilities, classes, curve, ("false_positive_rate", "true_positive_rate"))


def precision_recall_points(truth: Integers, probabilities: Floats, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Points of the precision-recall curves, as `roc_points` gives those of ROC."""

    def curve(is_class: NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
        precision, recall, _ = sklearn_metrics.precision_recall_curve(is_class, scores, drop_intermediate=True)
        return recall[::-1], precision[::-1]

    return _points(truth, probabilities, classes, curve, ("recall", "precision"))


def _areas(truth: Integers, probabilities: Floats, classes: Sequence[str], area: Any) -> Areas:
    per_class = {
        name: float(area(is_class, scores)) if _has_both(is_class) else None
        for name, is_class, scores in _against_the_rest(truth, probabilities, classes)
    }
    known = [value for value in per_class.values() if value is not None]
    macro = float(np.mean(known)) if len(known) == len(classes) else None
    return Areas(per_class, macro, float(area(*_pooled(truth, probabilities))))


def _points(
    truth: Integers, probabilities: Floats, classes: Sequence[str], curve: Any, axes: tuple[str, str]
) -> list[dict[str, Any]]:
    curves = [one for one in _against_the_rest(truth, probabilities, classes) if _has_both(one[1])]
    curves.append(("all classes (micro)", *_pooled(truth, probabilities)))
    points = []
    for name, is_class, scores in curves:
        x, y = curve(is_class, scores)
        chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), POINTS_PER_CURVE)).round().astype(int))
        points += [
            {"class": name, "point": point, axes[0]: float(x[i]), axes[1]: float(y[i])}
            for point, i in enumerate(chosen)
        ]
    return points


def _against_the_rest(
    truth: Integers, probabilities: Floats, classes: Sequence[str]
) -> list[tuple[str, NDArray[np.bool_], Floats]]:
    return [(name, truth == number, probabilities[:, number]) for number, name in enumerate(classes)]


def _has_both(is_class: NDArray[np.bool_]) -> bool:
    return bool(is_class.any() and not is_class.all())


def _pooled(truth: Integers, probabilities: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """Every answer for every class as one question of yes or no (n x classes,)."""
    is_class = truth[:, None] == np.arange(probabilities.shape[1])
    return is_class.ravel(), probabilities.ravel()
