from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pipeline.base.numbers.checked_values import Interval
from pipeline.base.numbers.share_intervals import out_of_fold_interval
from pipeline.evaluate.clip_verdicts import compare_by_group, group_verdicts, groups_per_class, numbers_over_groups
from pipeline.evaluate.evaluation import ClassGroups

CLASSES = ["flake", "鳞片"]


def test_a_clips_verdict_is_the_class_of_its_mean_probability_and_its_vote_that_of_most_frames() -> None:
    probabilities = np.array([[0.6, 0.4], [0.6, 0.4], [0.1, 0.9], [0.9, 0.1]])
    first, second = group_verdicts(["a", "a", "a", "b"], np.array([0, 0, 0, 1]), probabilities)
    assert (first.group, first.predicted, first.vote, first.truth) == ("a", 1, 0, 0)
    assert (first.n_frames, first.n_frames_right) == (3, 2)
    assert first.mean_probabilities == pytest.approx((1.3 / 3, 1.7 / 3))
    assert (second.group, second.predicted, second.vote, second.n_frames_right) == ("b", 0, 0, 0)


def test_a_group_of_two_labels_has_a_verdict_for_each() -> None:
    groups, truth = ["b", "a", "a", "a"], np.array([1, 0, 1, 1])
    probabilities = np.array([[0.2, 0.8], [0.9, 0.1], [0.3, 0.7], [0.6, 0.4]])
    verdicts = group_verdicts(groups, truth, probabilities)
    assert [(verdict.group, verdict.truth, verdict.predicted, verdict.n_frames) for verdict in verdicts] == [
        ("a", 0, 0, 1), ("a", 1, 1, 2), ("b", 1, 1, 1),
    ]  # fmt: skip


def test_frames_in_any_order_give_the_same_verdicts() -> None:
    generator = np.random.default_rng(0)
    groups = [str(index) for index in generator.integers(7, size=60)]
    truth, probabilities = np.array([int(name) % 3 for name in groups]), generator.dirichlet([1, 1, 1], size=60)
    order = generator.permutation(60)
    shuffled = group_verdicts([groups[i] for i in order], truth[order], probabilities[order])
    for verdict, again in zip(group_verdicts(groups, truth, probabilities), shuffled, strict=True):
        assert dataclasses.replace(verdict, mean_probabilities=()) == dataclasses.replace(again, mean_probabilities=())
        assert verdict.mean_probabilities == pytest.approx(again.mean_probabilities)


def test_a_tied_vote_goes_to_the_class_with_the_larger_mean_probability() -> None:
    (verdict,) = group_verdicts(["a", "a"], np.array([1, 1]), np.array([[0.6, 0.4], [0.1, 0.9]]))
    assert verdict.vote == 1


def _judged(right: list[int], wrong: list[int]) -> dict[str, ClassGroups]:
    """Verdicts over one clip of one frame for each right or wrong answer, by class."""
    truth = np.array([n for n in (0, 1) for _ in range(right[n] + wrong[n])])
    predicted = np.array([s for n in (0, 1) for s in [n] * right[n] + [1 - n] * wrong[n]])
    verdicts = group_verdicts([f"{i:03}" for i in range(len(truth))], truth, np.eye(2)[predicted])
    return groups_per_class(verdicts, CLASSES)


def test_clips_are_counted_by_class_with_exact_intervals() -> None:
    numbers = _judged([3, 8], [0, 2])
    assert (numbers["flake"].groups, numbers["flake"].groups_right) == (3, 3)
    assert numbers["flake"].interval.to_json() == pytest.approx([0.2924, 1.0], abs=1e-4)
    assert numbers["鳞片"].interval.to_json() == pytest.approx([0.4439, 0.9748], abs=1e-4)


def test_out_of_fold_the_intervals_are_those_of_the_model_that_ships() -> None:
    verdicts = group_verdicts([f"{i:02}" for i in range(10)], np.array([0, 1] * 5), np.eye(2)[[0, 1] * 4 + [1, 1]])
    assert numbers_over_groups(verdicts, n_folds=5).interval == out_of_fold_interval(9, 10, 5)
    assert groups_per_class(verdicts, CLASSES, n_folds=5)["flake"].interval == out_of_fold_interval(4, 5, 5)


def test_a_class_that_nobody_held_out_may_be_right_in_any_share() -> None:
    numbers = _judged([3, 0], [0, 0])
    assert numbers["鳞片"] == ClassGroups(groups=0, groups_right=0, interval=Interval(0.0, 1.0))


def test_two_classifiers_are_compared_on_the_same_groups_in_any_order() -> None:
    groups, truth = [f"{i:02}" for i in range(8)], np.array([0, 1] * 4)
    right, wrong = np.eye(2)[truth], np.eye(2)[1 - truth]
    trained, baseline = group_verdicts(groups, truth, right), group_verdicts(groups, truth, wrong)
    test = compare_by_group(trained, baseline[::-1])
    assert (test.n_clips, test.better, test.worse, test.verdict) == (8, 8, 0, "better")
    with pytest.raises(ValueError, match="1 groups were judged by one classifier only"):
        compare_by_group(trained, baseline[1:])


def test_the_headline_counts_verdicts_and_the_vote_stands_beside_it() -> None:
    probabilities = np.array([[0.6, 0.4], [0.6, 0.4], [0.1, 0.9], [0.9, 0.1]])
    numbers = numbers_over_groups(group_verdicts(["a", "a", "a", "b"], np.array([0, 0, 0, 0]), probabilities))
    assert (numbers.groups_right, numbers.groups_right_by_vote, numbers.n_groups) == (1, 2, 2)
    assert numbers.top1 == 0.5
    assert numbers.interval.to_json() == pytest.approx([0.0126, 0.9874], abs=1e-4)
