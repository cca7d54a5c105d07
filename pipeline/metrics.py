"""Predictions to numbers. Arrays in, plain Python numbers out, so that they go into JSON as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as sklearn_metrics

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

GROUPS_FOR_A_BOOTSTRAP = 30  # below, the percentile interval covers far less than it says (3 groups: 61 % of 95 %)
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
    return {
        "top1": float((predicted == truth).mean()),
        "top5": _top5(truth, probabilities),
        "macro_f1": float(
            sklearn_metrics.f1_score(truth, predicted, labels=range(n_classes), average="macro", zero_division=0)
        ),
        "auc": _auc(truth, probabilities),
        "ece": expected_calibration_error(truth, probabilities),
        # Study 000, eq. 4, read as the mean over frames of the sum over classes.
        "mse": float(((probabilities - np.eye(n_classes)[truth]) ** 2).sum(axis=1).mean()),
        "nll": float(-np.log(np.maximum(of_truth, np.finfo(np.float64).tiny)).mean()),
    }


def expected_calibration_error(truth: Integers, probabilities: Floats) -> float:
    """Mean |accuracy - confidence| over 15 equal bins of confidence, weighted by frames (Guo et al. 2017, eq. 3)."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = [abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return float(sum(gaps))


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


def group_verdicts(groups: Sequence[str], probabilities: Floats) -> dict[str, int]:
    """The class of each group (clip or photo): the largest mean probability over its frames."""
    names = np.array(groups)
    return {str(name): int(probabilities[names == name].mean(axis=0).argmax()) for name in np.unique(names)}


def exact_interval(n_right: int, n: int) -> list[float]:
    """The exact (Clopper-Pearson) 95 % interval of a share: 3 of 3 gives [0.29, 1]."""
    interval = stats.binomtest(n_right, n).proportion_ci(confidence_level=0.95, method="exact")
    return [float(interval.low), float(interval.high)]


def cluster_bootstrap_interval(groups: Sequence[str], right: NDArray[np.bool_], seed: int) -> list[float] | None:
    """95 % percentile interval of frame accuracy, resampling whole groups; None below 30 groups."""
    names, group_of_frame = np.unique(np.array(groups), return_inverse=True)
    if len(names) < GROUPS_FOR_A_BOOTSTRAP:
        return None
    n_right = np.bincount(group_of_frame, weights=right)
    n_frames = np.bincount(group_of_frame)
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(names), size=(10_000, len(names)))
    accuracy = n_right[drawn].sum(axis=1) / n_frames[drawn].sum(axis=1)
    low, high = np.percentile(accuracy, [2.5, 97.5])
    return [float(low), float(high)]


def _top5(truth: Integers, probabilities: Floats) -> float | None:
    n_classes = probabilities.shape[1]
    if n_classes < 6:
        return None
    return float(sklearn_metrics.top_k_accuracy_score(truth, probabilities, k=5, labels=range(n_classes)))


def _auc(truth: Integers, probabilities: Floats) -> float | None:
    """Area under the ROC curve, one class against the rest, macro mean; None where a class has no frame."""
    n_classes = probabilities.shape[1]
    if len(np.unique(truth)) < n_classes:
        return None
    if n_classes == 2:
        return float(sklearn_metrics.roc_auc_score(truth, probabilities[:, 1]))
    return float(sklearn_metrics.roc_auc_score(truth, probabilities, multi_class="ovr", average="macro"))
