from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from pipeline.evaluate import metrics
from pipeline.evaluate.evaluation import ClassFrames
from pipeline.evaluate.metrics import (
    POINTS_PER_CURVE,
    precision_recall_areas,
    precision_recall_points,
    roc_areas,
    roc_points,
)
from runtime.answers import probabilities_of

CLASSES = ["a", "b", "c"]


def test_probabilities_add_up_and_survive_large_logits() -> None:
    probabilities = probabilities_of(np.array([[1000.0, 0.0], [-1000.0, 0.0]]), None)
    assert probabilities.sum(axis=1) == pytest.approx([1, 1])
    assert np.isfinite(probabilities).all()


def test_a_higher_temperature_makes_the_network_less_sure() -> None:
    logits = np.array([[2.0, 0.0]])
    assert probabilities_of(logits, 2.0).max() < probabilities_of(logits, None).max()


def test_frame_numbers_equal_a_hand_calculation() -> None:
    truth = np.array([0, 1])
    probabilities = np.array([[0.8, 0.2], [0.6, 0.4]])
    numbers = metrics.frame_numbers(truth, probabilities)
    assert (numbers.n_frames, numbers.top1) == (2, 0.5)
    assert numbers.errors.mse == pytest.approx((2 * 0.2**2 + 2 * 0.6**2) / 2)
    assert numbers.errors.nll == pytest.approx(-(math.log(0.8) + math.log(0.4)) / 2)
    assert numbers.errors.ece == pytest.approx(0.5 * abs(1 - 0.8) + 0.5 * abs(0 - 0.6))
    assert (numbers.top5.value, numbers.top5.reason) == (None, "2 classes; needs at least 6")


def test_a_class_that_is_never_predicted_has_zero_precision_and_no_warning() -> None:
    numbers = metrics.per_class(np.array([0, 1]), np.array([0, 0]), ["a", "b"])
    assert numbers["b"] == ClassFrames(precision=0.0, recall=0.0, f1=0.0, support=1)


def test_confusion_has_the_truth_by_row() -> None:
    assert metrics.confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 3) == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


@st.composite
def judged_frames(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Truth and probabilities of 2 to 40 frames and 2 to 8 classes; few logits, so ties; a class may have no frame."""
    n_classes = draw(st.integers(2, 8))
    row = st.lists(st.integers(-2, 2), min_size=n_classes, max_size=n_classes)
    logits = draw(st.lists(row, min_size=2, max_size=40))
    truth = draw(st.lists(st.integers(0, n_classes - 1), min_size=len(logits), max_size=len(logits)))
    return np.array(truth), probabilities_of(np.array(logits, dtype=np.float32), None)


@settings(max_examples=60, deadline=None)
@given(judged_frames())
def test_frame_numbers_are_those_of_scikit_learn(judged: tuple[np.ndarray, np.ndarray]) -> None:
    truth, probabilities = judged
    n_classes, predicted = probabilities.shape[1], probabilities.argmax(axis=1)
    numbers = metrics.frame_numbers(truth, probabilities)
    present = np.unique(truth)
    recalls = sklearn_metrics.recall_score(truth, predicted, labels=present, average=None, zero_division=0)
    assert numbers.balanced_accuracy == pytest.approx(recalls.mean())
    assert numbers.top1 == sklearn_metrics.accuracy_score(truth, predicted)
    labels = list(range(n_classes))
    assert numbers.errors.nll == pytest.approx(sklearn_metrics.log_loss(truth, probabilities, labels=labels))
    squares = [(p - (truth == index)) ** 2 for index, p in enumerate(probabilities.T)]
    assert numbers.errors.mse == pytest.approx(np.sum(squares, axis=0).mean())
    shares = sklearn_metrics.confusion_matrix(truth, predicted, labels=labels, normalize="true")
    assert np.allclose(metrics.normalised_confusion(truth, predicted, n_classes), shares)


@settings(max_examples=60, deadline=None)
@given(judged_frames())
def test_the_bins_of_confidence_hold_every_frame_once(judged: tuple[np.ndarray, np.ndarray]) -> None:
    truth, probabilities = judged
    bins = metrics.reliability(truth, probabilities)
    assert sum(of_bin.frames for of_bin in bins) == len(truth)
    n_right = sum(of_bin.accuracy * of_bin.frames for of_bin in bins)
    assert n_right == pytest.approx((probabilities.argmax(axis=1) == truth).sum())
    assert [of_bin.confidence for of_bin in bins] == sorted(of_bin.confidence for of_bin in bins)


def test_confidence_and_accuracy_are_compared_bin_by_bin() -> None:
    truth = np.array([0, 0, 0, 1])
    probabilities = np.array([[0.9, 0.1], [0.91, 0.09], [0.6, 0.4], [0.62, 0.38]])
    sure, unsure = (
        {"confidence": 0.905, "accuracy": 1.0, "frames": 2},
        {"confidence": 0.61, "accuracy": 0.5, "frames": 2},
    )
    bins = [of_bin.to_json() for of_bin in metrics.reliability(truth, probabilities)]
    assert bins == [pytest.approx(unsure), pytest.approx(sure)]
    assert metrics.expected_calibration_error(truth, probabilities) == pytest.approx((0.11 + 0.095) / 2)


def test_the_five_likeliest_are_those_of_scikit_learn_where_nothing_is_tied() -> None:
    generator = np.random.default_rng(0)
    probabilities = probabilities_of(generator.normal(size=(200, 9)), None)
    truth = generator.integers(9, size=200)
    expected = sklearn_metrics.top_k_accuracy_score(truth, probabilities, k=5, labels=range(9))
    assert metrics.frame_numbers(truth, probabilities).top5.value == expected


def test_of_tied_classes_the_first_are_the_likeliest_for_top1_and_top5_alike() -> None:
    tied = np.full((2, 6), 1 / 6)
    numbers = metrics.frame_numbers(np.array([0, 5]), tied)
    assert (numbers.top1, numbers.top5.value) == (0.5, 0.5)


def _drawn(n: int, n_classes: int, decimals: int = 8) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    truth = generator.integers(n_classes, size=n)
    logits = generator.normal(size=(n, n_classes)) + np.eye(n_classes)[truth]
    return truth, probabilities_of(logits.round(decimals), None)


@pytest.mark.parametrize("decimals", [8, 0])  # with whole logits many frames are tied
def test_areas_of_several_classes_are_those_of_scikit_learn(decimals: int) -> None:
    truth, probabilities = _drawn(80, 3, decimals)
    roc = roc_areas(truth, probabilities, CLASSES)
    assert roc.macro == pytest.approx(sklearn_metrics.roc_auc_score(truth, probabilities, multi_class="ovr"))
    assert roc.micro == pytest.approx(
        sklearn_metrics.roc_auc_score(truth, probabilities, multi_class="ovr", average="micro")
    )
    precision = precision_recall_areas(truth, probabilities, CLASSES)
    for average, area in (("macro", precision.macro), ("micro", precision.micro)):
        expected = sklearn_metrics.average_precision_score(np.eye(3)[truth], probabilities, average=average)
        assert area == pytest.approx(expected)
    expected = sklearn_metrics.average_precision_score(truth == 1, probabilities[:, 1])
    assert precision.per_class["b"] == pytest.approx(expected)


def test_of_two_classes_the_area_is_that_of_the_second() -> None:
    truth, probabilities = _drawn(60, 2)
    roc = roc_areas(truth, probabilities, CLASSES[:2])
    assert roc.macro == pytest.approx(sklearn_metrics.roc_auc_score(truth, probabilities[:, 1]))


def test_two_frames_in_the_right_order_have_the_whole_area_and_in_the_wrong_one_none() -> None:
    probabilities = np.array([[0.8, 0.2], [0.6, 0.4]])
    assert roc_areas(np.array([0, 1]), probabilities, CLASSES[:2]).macro == 1.0
    assert roc_areas(np.array([1, 0]), probabilities, CLASSES[:2]).macro == 0.0


def test_a_class_without_frames_has_no_area_nor_has_the_mean() -> None:
    truth, probabilities = np.array([0, 1, 1]), np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
    roc = roc_areas(truth, probabilities, CLASSES)
    assert roc.to_json()["per_class"]["c"] is None
    assert roc.macro is None
    assert roc.per_class["a"] == 0.5
    assert 0 < roc.micro < 1


def test_where_all_frames_are_of_one_class_only_the_pooled_answers_have_areas() -> None:
    roc = roc_areas(np.array([0, 0]), np.array([[0.8, 0.2], [0.6, 0.4]]), CLASSES[:2])
    assert (roc.macro, roc.per_class, roc.micro) == (None, {"a": None, "b": None}, 1.0)


def test_curves_are_thinned_for_drawing_and_keep_their_ends() -> None:
    truth, probabilities = _drawn(4000, 3)
    points = [point for point in roc_points(truth, probabilities, CLASSES) if point["class"] == "b"]
    assert len(points) == POINTS_PER_CURVE
    assert [point["point"] for point in points] == list(range(POINTS_PER_CURVE))
    x, y = ([point[axis] for point in points] for axis in ("false_positive_rate", "true_positive_rate"))
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    whole = roc_areas(truth, probabilities, CLASSES).per_class["b"]
    assert np.trapezoid(y, x) == pytest.approx(whole, abs=0.005)


def test_a_precision_recall_curve_goes_from_no_recall_to_all_of_it() -> None:
    truth, probabilities = _drawn(50, 3)
    points = [p for p in precision_recall_points(truth, probabilities, CLASSES) if p["class"] == "c"]
    assert (points[0]["recall"], points[0]["precision"], points[-1]["recall"]) == (0, 1, 1)


def test_a_class_without_frames_has_no_curve_and_the_pooled_answers_have() -> None:
    points = roc_points(np.array([0, 0]), np.array([[0.8, 0.2], [0.6, 0.4]]), CLASSES[:2])
    assert {point["class"] for point in points} == {"all classes (micro)"}
