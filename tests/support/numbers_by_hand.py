"""The numbers of `reports/evaluate.json` for planted answers, in plain loops and without the code under test."""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]


def softmax(logits: Floats, temperature: float) -> Floats:
    """Softmax of each row less its largest logit: otherwise tied answers would differ in their last bits."""
    scaled = [[float(x) / temperature for x in row] for row in logits]
    exponents = [[math.exp(x - max(row)) for x in row] for row in scaled]
    return np.array([[x / sum(row) for x in row] for row in exponents])


def first_largest(values: Sequence[float]) -> int:
    return list(values).index(max(values))


def in_the_first_five(truth: Integers, probabilities: Floats) -> float:
    ranked = [sorted(range(len(row)), key=lambda index: -row[index])[:5] for row in probabilities.tolist()]
    return float(np.mean([int(true) in five for true, five in zip(truth, ranked, strict=True)]))


def of_class(truth: Integers, predicted: Integers, index: int) -> dict[str, float]:
    """Precision, recall, F1 and support of a class from three counts.

    Args:
        truth: (n,) class numbers.
        predicted: (n,) class numbers.
        index: the number of the class.
    """
    n_right = sum(1 for t, p in zip(truth, predicted, strict=True) if t == p == index)
    n_predicted, n_true = int((predicted == index).sum()), int((truth == index).sum())
    f1 = 2 * n_right / (n_predicted + n_true) if n_predicted + n_true else 0.0
    return {
        "precision": n_right / n_predicted if n_predicted else 0.0,
        "recall": n_right / n_true if n_true else 0.0,
        "f1": f1,
        "support": n_true,
    }


def bins(truth: Integers, probabilities: Floats) -> list[dict[str, float]]:
    """The numbers of each of fifteen equal bins of confidence; bins without frames are left out."""
    numbers = []
    for index in range(15):
        inside = [
            (float(row.max()), first_largest(row) == true)
            for row, true in zip(probabilities, truth, strict=True)
            if index == min(14, int(row.max() * 15))
        ]
        if inside:
            confidence, right = (float(np.mean(column)) for column in zip(*inside, strict=True))
            numbers.append({"confidence": confidence, "accuracy": right, "frames": len(inside)})
    return numbers


def calibration(truth: Integers, probabilities: Floats) -> dict[str, float]:
    """`ece`, `mse` and `nll`."""
    of_bins = bins(truth, probabilities)
    squares = [
        sum((p - (index == true)) ** 2 for index, p in enumerate(row))
        for row, true in zip(probabilities, truth, strict=True)
    ]
    gaps = [of_bin["frames"] * abs(of_bin["accuracy"] - of_bin["confidence"]) for of_bin in of_bins]
    return {
        "ece": sum(gaps) / len(truth),
        "mse": float(np.mean(squares)),
        "nll": float(np.mean([-math.log(row[true]) for row, true in zip(probabilities, truth, strict=True)])),
    }


def roc_area(is_class: Sequence[bool], scores: Sequence[float]) -> float | None:
    """How often a frame of the class has the larger score of two; ties are half (Mann and Whitney's U)."""
    pairs = [
        (a > b) + 0.5 * (a == b)
        for (a, is_a), (b, is_b) in itertools.product(zip(scores, is_class, strict=True), repeat=2)
        if is_a and not is_b
    ]
    return float(np.mean(pairs)) if pairs else None


def average_precision(is_class: Sequence[bool], scores: Sequence[float]) -> float | None:
    """Precision at every threshold, weighted by the added recall; None where a class has no frame, or all frames."""
    if not 0 < sum(is_class) < len(is_class):
        return None
    area, before = 0.0, 0
    for threshold in sorted(set(scores), reverse=True):
        called = [true for true, score in zip(is_class, scores, strict=True) if score >= threshold]
        area += (sum(called) - before) / sum(is_class) * sum(called) / len(called)
        before = sum(called)
    return area


def areas(area: Any, truth: Integers, probabilities: Floats, classes: Sequence[str]) -> dict[str, Any]:
    """The area of each class against the rest, their mean where every class has one, and that of all answers pooled."""
    indices = range(len(classes))
    per_class = {classes[n]: area((truth == n).tolist(), probabilities[:, n].tolist()) for n in indices}
    pooled = [(int(true) == n, float(row[n])) for true, row in zip(truth, probabilities, strict=True) for n in indices]
    known = [value for value in per_class.values() if value is not None]
    return {
        "macro": float(np.mean(known)) if len(known) == len(classes) else None,
        "micro": area(*map(list, zip(*pooled, strict=True))),
        "per_class": per_class,
    }


def exact_interval(n_right: float, n: int) -> list[float]:
    """Clopper and Pearson's interval, by the quantiles of the beta distribution."""
    low = 0.0 if n_right == 0 else float(stats.beta.ppf(0.025, n_right, n - n_right + 1))
    high = 1.0 if n_right == n else float(stats.beta.ppf(0.975, n_right + 1, n - n_right))
    return [low, high]


def groups(names: Sequence[str], truth: Integers, probabilities: Floats) -> dict[str, tuple[int, int, int]]:
    """For each group its class, the class of the largest mean probability, and the class of most frames' answers."""
    verdicts = {}
    for name in set(names):
        frames = [frame for frame, group in enumerate(names) if group == name]
        mean = probabilities[frames].mean(axis=0)
        counts = collections.Counter(first_largest(probabilities[frame]) for frame in frames)
        vote = max(counts, key=lambda index: (counts[index], mean[index]))
        verdicts[name] = (int(truth[frames[0]]), first_largest(mean), vote)
    return verdicts


def clips_to_halve(n_right: int, n: int) -> int:
    """Add one clip after the other, until the interval is half as wide."""

    def width(right: float, size: int) -> float:
        low, high = exact_interval(right, size) if size else (0.0, 1.0)
        return high - low

    share = n_right / n if n else 1.0
    return next(more for more in itertools.count(1) if width(share * (n + more), n + more) <= width(n_right, n) / 2)


def neighbours_shares(known: Floats, labels: Integers, held_out: Floats, k: int, n_classes: int) -> Floats:
    """The shares of the classes among the k nearest by angle, (n, classes)."""

    def angle(a: Floats, b: Floats) -> float:
        return 1 - float(a @ b) / (math.sqrt(a @ a) * math.sqrt(b @ b))

    shares = np.zeros((len(held_out), n_classes))
    for row, features in enumerate(held_out.astype(np.float64)):
        nearest = sorted(range(len(known)), key=lambda frame: angle(known[frame].astype(np.float64), features))[:k]
        for frame in nearest:
            shares[row, labels[frame]] += 1 / len(nearest)
    return shares


def probe_accuracy(features: Floats, labels: Sequence[str], folds: Any) -> float:
    """Accuracy of the linear probe on standardised features, without the principal axes that make it fast."""
    from sklearn.linear_model import LogisticRegression

    right = []
    names = np.array(labels)
    for learned, held_out in folds:
        mean, deviation = features[learned].mean(axis=0), features[learned].std(axis=0)
        probe = LogisticRegression(C=0.01, max_iter=1000, tol=1e-6)
        probe.fit((features[learned] - mean) / deviation, names[learned])
        right += (probe.predict((features[held_out] - mean) / deviation) == names[held_out]).tolist()
    return float(np.mean(right))
