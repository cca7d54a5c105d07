from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline import metrics


def test_three_right_of_three_say_no_more_than_29_percent() -> None:
    low, high = metrics.exact_interval(3, 3)
    assert low == pytest.approx(0.2924, abs=1e-4)
    assert high == 1.0


def test_the_exact_interval_is_the_binomials_own_tail() -> None:
    low, _ = metrics.exact_interval(8, 10)
    tail = sum(math.comb(10, k) * low**k * (1 - low) ** (10 - k) for k in range(8, 11))
    assert tail == pytest.approx(0.025)


def test_a_clips_verdict_is_the_class_of_its_mean_probability() -> None:
    probabilities = np.array([[0.6, 0.4], [0.6, 0.4], [0.1, 0.9], [0.9, 0.1]])
    assert metrics.group_verdicts(["a", "a", "a", "b"], probabilities) == {"a": 1, "b": 0}


def test_no_bootstrap_is_shown_below_thirty_groups() -> None:
    right = np.ones(29, dtype=bool)
    assert metrics.cluster_bootstrap_interval([str(i) for i in range(29)], right, seed=0) is None


def test_the_bootstrap_resamples_groups_and_not_frames() -> None:
    generator = np.random.default_rng(0)
    groups = [str(i) for i in range(40) for _ in range(50)]
    right = np.repeat(generator.random(40) < 0.8, 50)  # frames of a group are right or wrong together
    interval = metrics.cluster_bootstrap_interval(groups, right, seed=0)
    assert interval is not None
    assert interval[1] - interval[0] > 0.15  # over 2,000 independent frames it would be 0.035


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
    assert numbers["auc"] == 1.0
    assert numbers["top5"] is None


def test_auc_is_unknown_where_a_class_has_no_frame() -> None:
    assert metrics.frame_numbers(np.array([0, 0]), np.array([[0.8, 0.2], [0.6, 0.4]]))["auc"] is None


def test_a_class_that_is_never_predicted_has_zero_precision_and_no_warning() -> None:
    numbers = metrics.per_class(np.array([0, 1]), np.array([0, 0]), ["a", "b"])
    assert numbers["b"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}


def test_confusion_has_the_truth_by_row() -> None:
    assert metrics.confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 3) == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
