from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from pipeline.evaluate.metrics import (
    POINTS_PER_CURVE,
    precision_recall_areas,
    precision_recall_points,
    probabilities_of,
    roc_areas,
    roc_points,
)

CLASSES = ["a", "b", "c"]


def _judged(n: int, n_classes: int, decimals: int = 8) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    truth = generator.integers(n_classes, size=n)
    logits = generator.normal(size=(n, n_classes)) + np.eye(n_classes)[truth]
    return truth, probabilities_of(logits.round(decimals), None)


@pytest.mark.parametrize("decimals", [8, 0])  # with whole logits many frames are tied
def test_areas_of_several_classes_are_those_of_scikit_learn(decimals: int) -> None:
    truth, probabilities = _judged(80, 3, decimals)
    roc = roc_areas(truth, probabilities, CLASSES)
    assert roc.macro == pytest.approx(sklearn_metrics.roc_auc_score(truth, probabilities, multi_class="ovr"))
    assert roc.micro == pytest.approx(
        sklearn_metrics.roc_auc_score(truth, probabilities, multi_class="ovr", average="micro")
    )
    precision = precision_recall_areas(truth, probabilities, CLASSES)
    for average, found in (("macro", precision.macro), ("micro", precision.micro)):
        expected = sklearn_metrics.average_precision_score(np.eye(3)[truth], probabilities, average=average)
        assert found == pytest.approx(expected)
    expected = sklearn_metrics.average_precision_score(truth == 1, probabilities[:, 1])
    assert precision.per_class["b"] == pytest.approx(expected)


def test_of_two_classes_the_area_is_that_of_the_second() -> None:
    truth, probabilities = _judged(60, 2)
    roc = roc_areas(truth, probabilities, CLASSES[:2])
    assert roc.macro == pytest.approx(sklearn_metrics.roc_auc_score(truth, probabilities[:, 1]))


def test_two_frames_in_the_right_order_have_the_whole_area_and_in_the_wrong_one_none() -> None:
    probabilities = np.array([[0.8, 0.2], [0.6, 0.4]])
    assert roc_areas(np.array([0, 1]), probabilities, CLASSES[:2]).macro == 1.0
    assert roc_areas(np.array([1, 0]), probabilities, CLASSES[:2]).macro == 0.0


def test_a_class_without_frames_has_no_area_nor_has_the_mean() -> None:
    truth, probabilities = np.array([0, 1, 1]), np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
    roc = roc_areas(truth, probabilities, CLASSES)
    assert roc.as_json()["per_class"]["c"] is None
    assert roc.macro is None
    assert roc.per_class["a"] == 0.5
    assert 0 < roc.micro < 1


def test_where_all_frames_are_of_one_class_only_the_pooled_answers_have_areas() -> None:
    roc = roc_areas(np.array([0, 0]), np.array([[0.8, 0.2], [0.6, 0.4]]), CLASSES[:2])
    assert (roc.macro, roc.per_class, roc.micro) == (None, {"a": None, "b": None}, 1.0)


def test_curves_are_thinned_for_drawing_and_keep_their_ends() -> None:
    truth, probabilities = _judged(4000, 3)
    points = [point for point in roc_points(truth, probabilities, CLASSES) if point["class"] == "b"]
    assert len(points) == POINTS_PER_CURVE
    assert [point["point"] for point in points] == list(range(POINTS_PER_CURVE))
    x, y = ([point[axis] for point in points] for axis in ("false_positive_rate", "true_positive_rate"))
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    whole = roc_areas(truth, probabilities, CLASSES).per_class["b"]
    assert np.trapezoid(y, x) == pytest.approx(whole, abs=0.005)


def test_a_precision_recall_curve_goes_from_no_recall_to_all_of_it() -> None:
    truth, probabilities = _judged(50, 3)
    points = [p for p in precision_recall_points(truth, probabilities, CLASSES) if p["class"] == "c"]
    assert (points[0]["recall"], points[0]["precision"], points[-1]["recall"]) == (0, 1, 1)


def test_a_class_without_frames_has_no_curve_and_the_pooled_answers_have() -> None:
    points = roc_points(np.array([0, 0]), np.array([[0.8, 0.2], [0.6, 0.4]]), CLASSES[:2])
    assert {point["class"] for point in points} == {"all classes (micro)"}
