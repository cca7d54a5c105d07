from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from pipeline.evaluate import metrics


def test_probabilities_add_up_and_survive_large_logits() -> None:
    probabilities = metrics.probabilities_of(np.array([[1000.0, 0.0], [-1000.0, 0.0]]), None)
    assert probabilities.sum(axis=1) == pytest.approx([1, 1])
    assert np.isfinite(probabilities).all()


def test_a_higher_temperature_makes_the_network_less_sure() -> None:
    logits = np.array([[2.0, 0.0]])
    assert metrics.probabilities_of(logits, 2.0).max() < metrics.probabilities_of(logits, None).max()


def test_frame_numbers_equal_a_hand_calculation() -> None:
    truth = np.array([0, 1])
    probabilities = np.array([[0.8, 0.2], [0.6, 0.4]])
    numbers = metrics.frame_numbers(truth, probabilities)
    assert numbers["top1"] == 0.5
    assert numbers["mse"] == pytest.approx((2 * 0.2**2 + 2 * 0.6**2) / 2)
    assert numbers["nll"] == pytest.approx(-(math.log(0.8) + math.log(0.4)) / 2)
    assert numbers["ece"] == pytest.approx(0.5 * abs(1 - 0.8) + 0.5 * abs(0 - 0.6))
    assert numbers["top5"] is None


def test_a_class_that_is_never_predicted_has_zero_precision_and_no_warning() -> None:
    numbers = metrics.per_class(np.array([0, 1]), np.array([0, 0]), ["a", "b"])
    assert numbers["b"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}


def test_confusion_has_the_truth_by_row() -> None:
    assert metrics.confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 3) == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


@st.composite
def judged_frames(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Truth and probabilities of 2 to 40 frames and 2 to 8 classes; few logits, so ties; a class may have no frame."""
    n_classes = draw(st.integers(2, 8))
    row = st.lists(st.integers(-2, 2), min_size=n_classes, max_size=n_classes)
    logits = draw(st.lists(row, min_size=2, max_size=40))
    truth = draw(st.lists(st.integers(0, n_classes - 1), min_size=len(logits), max_size=len(logits)))
    return np.array(truth), metrics.probabilities_of(np.array(logits, dtype=np.float32), None)


@settings(max_examples=60, deadline=None)
@given(judged_frames())
def test_frame_numbers_are_those_of_scikit_learn(judged: tuple[np.ndarray, np.ndarray]) -> None:
    truth, probabilities = judged
    n_classes, predicted = probabilities.shape[1], probabilities.argmax(axis=1)
    numbers = metrics.frame_numbers(truth, probabilities)
    present = np.unique(truth)
    recalls = sklearn_metrics.recall_score(truth, predicted, labels=present, average=None, zero_division=0)
    assert numbers["balanced_accuracy"] == pytest.approx(recalls.mean())
    assert numbers["top1"] == sklearn_metrics.accuracy_score(truth, predicted)
    labels = list(range(n_classes))
    assert numbers["nll"] == pytest.approx(sklearn_metrics.log_loss(truth, probabilities, labels=labels))
    squares = [(p - (truth == number)) ** 2 for number, p in enumerate(probabilities.T)]
    assert numbers["mse"] == pytest.approx(np.sum(squares, axis=0).mean())
    shares = sklearn_metrics.confusion_matrix(truth, predicted, labels=labels, normalize="true")
    assert np.allclose(metrics.normalised_confusion(truth, predicted, n_classes), shares)


@settings(max_examples=60, deadline=None)
@given(judged_frames())
def test_the_bins_of_confidence_hold_every_frame_once(judged: tuple[np.ndarray, np.ndarray]) -> None:
    truth, probabilities = judged
    bins = metrics.reliability(truth, probabilities)
    assert sum(one["frames"] for one in bins) == len(truth)
    right = sum(one["accuracy"] * one["frames"] for one in bins)
    assert right == pytest.approx((probabilities.argmax(axis=1) == truth).sum())
    assert [one["confidence"] for one in bins] == sorted(one["confidence"] for one in bins)


def test_confidence_and_accuracy_are_compared_bin_by_bin() -> None:
    truth = np.array([0, 0, 0, 1])
    probabilities = np.array([[0.9, 0.1], [0.91, 0.09], [0.6, 0.4], [0.62, 0.38]])
    sure, unsure = (
        {"confidence": 0.905, "accuracy": 1.0, "frames": 2},
        {"confidence": 0.61, "accuracy": 0.5, "frames": 2},
    )
    assert metrics.reliability(truth, probabilities) == [pytest.approx(unsure), pytest.approx(sure)]
    assert metrics.expected_calibration_error(truth, probabilities) == pytest.approx((0.11 + 0.095) / 2)


def test_the_five_likeliest_are_those_of_scikit_learn_where_nothing_is_tied() -> None:
    generator = np.random.default_rng(0)
    probabilities = metrics.probabilities_of(generator.normal(size=(200, 9)), None)
    truth = generator.integers(9, size=200)
    expected = sklearn_metrics.top_k_accuracy_score(truth, probabilities, k=5, labels=range(9))
    assert metrics.frame_numbers(truth, probabilities)["top5"] == expected


def test_of_tied_classes_the_first_are_the_likeliest_for_top1_and_top5_alike() -> None:
    tied = np.full((2, 6), 1 / 6)
    numbers = metrics.frame_numbers(np.array([0, 5]), tied)
    assert (numbers["top1"], numbers["top5"]) == (0.5, 0.5)
