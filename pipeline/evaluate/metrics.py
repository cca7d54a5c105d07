"""Predictions to numbers. Arrays in, plain Python numbers out, so that they go into JSON as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

ECE_BINS = 15


def probabilities_of(logits: Floats, temperature: float | None) -> Floats:
    """Softmax of logits (n, classes) in float64; a temperature of None is 1."""
    scaled = logits.astype(np.float64) / (temperature or 1.0)
    exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities: Floats = exponents / exponents.sum(axis=1, keepdims=True)
    return probabilities


def frame_numbers(truth: Integers, probabilities: Floats) -> dict[str, float | None]:
    """The numbers over frames that need no groups: truth (n,) class numbers, probabilities (n, classes)."""
    predicted = probabilities.argmax(axis=1)
    of_truth = probabilities[np.arange(len(truth)), truth]
    n_classes = probabilities.shape[1]
    recalls = np.diag(normalised_confusion(truth, predicted, n_classes))
    return {
        "top1": float((predicted == truth).mean()),
        "top5": _top5(truth, probabilities),
        # Over the classes that have frames: the others have no recall.
        "balanced_accuracy": float(recalls[np.unique(truth)].mean()),
        "macro_f1": float(
            sklearn_metrics.f1_score(truth, predicted, labels=range(n_classes), average="macro", zero_division=0)
        ),
        "ece": expected_calibration_error(truth, probabilities),
        # Study 000, eq. 4, read as the mean over frames of the sum over classes.
        "mse": float(((probabilities - np.eye(n_classes)[truth]) ** 2).sum(axis=1).mean()),
        "nll": float(-np.log(np.maximum(of_truth, np.finfo(np.float64).tiny)).mean()),
    }


def expected_calibration_error(truth: Integers, probabilities: Floats) -> float:
    """Mean |accuracy - confidence| over 15 equal bins of confidence, weighted by frames (Guo et al. 2017, eq. 3)."""
    bins = reliability(truth, probabilities)
    return sum(abs(one["accuracy"] - one["confidence"]) * one["frames"] for one in bins) / len(truth)


def reliability(truth: Integers, probabilities: Floats) -> list[dict[str, float]]:
    """Mean confidence, accuracy and frames of each of 15 equal bins of confidence that has any, from below."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    return [
        {
            "confidence": float(confidence[bins == number].mean()),
            "accuracy": float(right[bins == number].mean()),
            "frames": int((bins == number).sum()),
        }
        for number in np.unique(bins)
    ]


def per_class(truth: Integers, predicted: Integers, classes: Sequence[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and support of each class; 0 where a ratio has no denominator."""
    numbers = sklearn_metrics.precision_recall_fscore_support(
        truth, predicted, labels=range(len(classes)), zero_division=0
    )
    return {
        name: {
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "support": int(support),
        }
        for name, precision, recall, f1, support in zip(classes, *numbers, strict=True)
    }


def confusion(truth: Integers, predicted: Integers, n_classes: int) -> list[list[int]]:
    """Counts: a row per true class, a column per predicted class."""
    counts: list[list[int]] = sklearn_metrics.confusion_matrix(truth, predicted, labels=range(n_classes)).tolist()
    return counts


def normalised_confusion(truth: Integers, predicted: Integers, n_classes: int) -> NDArray[np.float64]:
    """Counts as shares of the true class's frames; the row of a class without frames is zero."""
    counts = np.array(confusion(truth, predicted, n_classes), dtype=np.float64)
    shares: NDArray[np.float64] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def _top5(truth: Integers, probabilities: Floats) -> float | None:
    """Whether the truth is among the five likeliest; of equals the first come first, as for the likeliest one."""
    if probabilities.shape[1] < 6:
        return None
    likeliest = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    return float((likeliest == truth[:, None]).any(axis=1).mean())


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
