"""Predictions to numbers. Arrays in, plain Python numbers out, so that they go into JSON as they are."""

from __future__ import annotations

from collections.abc import Sequence
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
