"""Numbers over frames, from the true classes and the network's probabilities.

In all of them `truth` is (n,) class numbers and `probabilities` is (n, classes), whose rows add up to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from pipeline.base.numbers.checked_values import ValueOrReason
from pipeline.evaluate.evaluation import (
    Areas,
    ClassFrames,
    FrameNumbers,
    ProbabilityErrors,
    ReliabilityBin,
)

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]
Curve = list[dict[str, Any]]  # a row per point, with the class that the curve belongs to

ECE_BINS = 15
POINTS_PER_CURVE = 200  # that are drawn; areas are computed from all points
_CLASSES_FOR_TOP5 = 6  # of five classes, the truth is always among the five likeliest


def frame_numbers(truth: Integers, probabilities: Floats) -> FrameNumbers:
    """Accuracy, F1 and the errors of the probabilities over frames."""
    predicted = probabilities.argmax(axis=1)
    n_classes = probabilities.shape[1]
    recalls = np.diag(normalised_confusion(truth, predicted, n_classes))
    macro_f1 = sklearn_metrics.f1_score(truth, predicted, labels=range(n_classes), average="macro", zero_division=0)
    return FrameNumbers(
        n_frames=len(truth),
        top1=float((predicted == truth).mean()),
        top5=_top5(truth, probabilities),
        # The classes without frames have no recall.
        balanced_accuracy=float(recalls[np.unique(truth)].mean()),
        macro_f1=float(macro_f1),
        errors=probability_errors(truth, probabilities),
    )


def _top5(truth: Integers, probabilities: Floats) -> ValueOrReason[float]:
    """The share of frames whose truth is among the five likeliest classes; of tied classes the first come first."""
    n_classes = probabilities.shape[1]
    if n_classes < _CLASSES_FOR_TOP5:
        return ValueOrReason(None, f"{n_classes} classes; needs at least {_CLASSES_FOR_TOP5}")
    likeliest = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    return ValueOrReason(float((likeliest == truth[:, None]).any(axis=1).mean()), None)


def probability_errors(truth: Integers, probabilities: Floats) -> ProbabilityErrors:
    """Calibration error, squared error and negative log-probability of the truth."""
    of_truth = probabilities[np.arange(len(truth)), truth]
    squares = (probabilities - np.eye(probabilities.shape[1])[truth]) ** 2
    return ProbabilityErrors(
        ece=expected_calibration_error(truth, probabilities),
        # Study 000, eq. 4, read as the mean over frames of the sum over classes.
        mse=float(squares.sum(axis=1).mean()),
        nll=float(-np.log(np.maximum(of_truth, np.finfo(np.float64).tiny)).mean()),
    )


def expected_calibration_error(truth: Integers, probabilities: Floats) -> float:
    """Mean |accuracy - confidence| over 15 equal bins of confidence, weighted by frames (Guo et al. 2017, eq. 3)."""
    bins = reliability(truth, probabilities)
    return sum(abs(of_bin.accuracy - of_bin.confidence) * of_bin.frames for of_bin in bins) / len(truth)


def reliability(truth: Integers, probabilities: Floats) -> list[ReliabilityBin]:
    """Mean confidence and accuracy of each of 15 equal bins of confidence, from the lowest; empty bins are left out."""
    confidence = probabilities.max(axis=1)
    is_right = probabilities.argmax(axis=1) == truth
    bin_of_frame = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    return [
        ReliabilityBin(
            confidence=float(confidence[bin_of_frame == index].mean()),
            accuracy=float(is_right[bin_of_frame == index].mean()),
            frames=int((bin_of_frame == index).sum()),
        )
        for index in np.unique(bin_of_frame)
    ]


def per_class(truth: Integers, predicted: Integers, classes: Sequence[str]) -> dict[str, ClassFrames]:
    """Precision, recall, F1 and support of each class; 0 where a ratio has no denominator.

    Args:
        truth: (n,) class numbers.
        predicted: (n,) class numbers.
        classes: the names of the classes, by their numbers.
    """
    columns = sklearn_metrics.precision_recall_fscore_support(
        truth, predicted, labels=range(len(classes)), zero_division=0
    )
    return {
        name: ClassFrames(float(precision), float(recall), float(f1), int(support))
        for name, precision, recall, f1, support in zip(classes, *columns, strict=True)
    }


def confusion(truth: Integers, predicted: Integers, n_classes: int) -> list[list[int]]:
    """Frames by class: a row per true class, a column per predicted class.

    Args:
        truth: (n,) class numbers.
        predicted: (n,) class numbers.
        n_classes: rows and columns.
    """
    counts: list[list[int]] = sklearn_metrics.confusion_matrix(truth, predicted, labels=range(n_classes)).tolist()
    return counts


def normalised_confusion(truth: Integers, predicted: Integers, n_classes: int) -> NDArray[np.float64]:
    """The confusion as shares of the true class's frames; the row of a class without frames is zero.

    Args:
        truth: (n,) class numbers.
        predicted: (n,) class numbers.
        n_classes: rows and columns.
    """
    counts = np.array(confusion(truth, predicted, n_classes), dtype=np.float64)
    shares: NDArray[np.float64] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def roc_areas(truth: Integers, probabilities: Floats, classes: Sequence[str]) -> Areas:
    """Areas under the ROC curves.

    Args:
        truth: (n,) class numbers.
        probabilities: (n, classes).
        classes: the names of the classes, by their numbers.
    """
    return _areas(truth, probabilities, classes, sklearn_metrics.roc_auc_score)


def precision_recall_areas(truth: Integers, probabilities: Floats, classes: Sequence[str]) -> Areas:
    """Average precision: the area under the precision-recall steps, which straight lines between points overstate.

    Args:
        truth: (n,) class numbers.
        probabilities: (n, classes).
        classes: the names of the classes, by their numbers.
    """
    return _areas(truth, probabilities, classes, sklearn_metrics.average_precision_score)


def roc_points(truth: Integers, probabilities: Floats, classes: Sequence[str]) -> Curve:
    """Points of the ROC curve of each class, and of all answers pooled, for drawing.

    Args:
        truth: (n,) class numbers.
        probabilities: (n, classes).
        classes: the names of the classes, by their numbers.
    """

    def curve(is_class: NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
        false_positive_rate, true_positive_rate, _ = sklearn_metrics.roc_curve(is_class, scores)
        return false_positive_rate, true_positive_rate

    return _points(truth, probabilities, classes, curve, ("false_positive_rate", "true_positive_rate"))


def precision_recall_points(truth: Integers, probabilities: Floats, classes: Sequence[str]) -> Curve:
    """Points of the precision-recall curve of each class, and of all answers pooled, for drawing.

    Args:
        truth: (n,) class numbers.
        probabilities: (n, classes).
        classes: the names of the classes, by their numbers.
    """

    def curve(is_class: NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
        precision, recall, _ = sklearn_metrics.precision_recall_curve(is_class, scores, drop_intermediate=True)
        return recall[::-1], precision[::-1]

    return _points(truth, probabilities, classes, curve, ("recall", "precision"))


def _areas(truth: Integers, probabilities: Floats, classes: Sequence[str], area: Any) -> Areas:
    area_of_class = {
        name: float(area(is_class, scores)) if _has_both(is_class) else None
        for name, is_class, scores in _against_the_rest(truth, probabilities, classes)
    }
    known = [value for value in area_of_class.values() if value is not None]
    macro = float(np.mean(known)) if len(known) == len(classes) else None
    return Areas(area_of_class, macro, float(area(*_pooled(truth, probabilities))))


def _points(truth: Integers, probabilities: Floats, classes: Sequence[str], curve: Any, axes: tuple[str, str]) -> Curve:
    questions = [
        (name, is_class, scores)
        for name, is_class, scores in _against_the_rest(truth, probabilities, classes)
        if _has_both(is_class)
    ]
    questions.append(("all classes (micro)", *_pooled(truth, probabilities)))
    points = []
    for name, is_class, scores in questions:
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
    """For each class its name, whether each frame is of it (n,), and its probability in each frame (n,)."""
    return [(name, truth == index, probabilities[:, index]) for index, name in enumerate(classes)]


def _has_both(is_class: NDArray[np.bool_]) -> bool:
    """Whether there are frames of the class and of others: without both there is no curve."""
    return bool(is_class.any() and not is_class.all())


def _pooled(truth: Integers, probabilities: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """Every answer for every class as a question of yes or no (n x classes,)."""
    is_class = truth[:, None] == np.arange(probabilities.shape[1])
    return is_class.ravel(), probabilities.ravel()
