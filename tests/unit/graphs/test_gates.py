"""For every gate: a graph that passes, and its twin, one frame worse, that does not."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from export.graphs.gates import FAILED, PASSED, LogitComparison, judge
from export.graphs.params import Fp32Gate
from pipeline.base.errors import DataError
from tests.support.gates import GATES

CLASSES = ("red", "蓝色")


def compare(torch_logits: list[list[float]], graph_logits: list[list[float]]) -> LogitComparison:
    truth = np.zeros(len(torch_logits), np.int64)
    return LogitComparison(CLASSES, truth, *(np.array(logits, np.float32) for logits in (torch_logits, graph_logits)))


def of_counts(counts: tuple[int, int], wrong: tuple[int, int] = (0, 0)) -> LogitComparison:
    """Frames of two classes: torch is right on all, and the graph is wrong on `wrong` frames of each class."""
    truth = np.repeat([0, 1], counts)
    torch_logits = np.where(truth[:, None] == [0, 1], 5.0, -5.0).astype(np.float32)
    graph_logits = torch_logits.copy()
    for first, n in zip((0, counts[0]), wrong, strict=True):
        graph_logits[first : first + n] *= -1
    return LogitComparison(CLASSES, truth, torch_logits, graph_logits)


def verdict(comparison: LogitComparison, precision: str) -> str:
    return judge(comparison, precision, GATES).verdict


def with_threshold(torch_largest: list[float], graph_largest: list[float], threshold: float | None) -> LogitComparison:
    """Frames on which both answer with the first of two classes; below the threshold they show none of the classes."""
    torch_logits, graph_logits = ([[value, value - 9.0] for value in side] for side in (torch_largest, graph_largest))
    return dataclasses.replace(compare(torch_logits, graph_logits), unknown_threshold=threshold)


def test_frames_that_one_side_takes_for_none_of_the_classes_are_counted() -> None:
    judgement = judge(with_threshold([1.0, 3.0, 5.0, 7.0], [3.0, 1.0, 1.0, 7.0], 2.0), "int8", GATES)
    assert (judgement.unknown, judgement.unknown_flips, judgement.flips) == (2, 3, 0)
    judgement = judge(with_threshold([1.0, 3.0, 5.0, 7.0], [3.0, 1.0, 1.0, 7.0], None), "int8", GATES)
    assert (judgement.unknown, judgement.unknown_flips) == (0, 0)


@pytest.mark.parametrize(("n_more", "expected"), [(1, "passed"), (2, "failed")])
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_smaller_logits_may_cost_one_frame_its_class_and_not_two(precision: str, n_more: int, expected: str) -> None:
    graph = [1.0] * n_more + [5.0] * (20 - n_more)
    comparison = with_threshold([5.0] * 20, graph, 2.0)
    judgement = judge(dataclasses.replace(comparison, truth=np.repeat([0, 1], 10)), precision, GATES)
    assert (judgement.verdict, judgement.flips) == (expected, 0)
    assert ("none" in str(judgement.reasons)) == (expected == "failed")


def test_a_flip_within_the_margin_is_counted_and_forgiven() -> None:
    judgement = judge(compare([[5.0, -5.0], [1.0, 1.0001]], [[5.0, -5.0], [1.0001, 1.0]]), "fp32", GATES)
    assert (judgement.flips, judgement.flips_outside_margin, judgement.verdict) == (1, 0, "passed")


def test_a_flip_outside_the_margin_is_not_forgiven() -> None:
    judgement = judge(compare([[5.0, -5.0], [1.0, 2.0]], [[5.0, -5.0], [2.0, 1.0]]), "fp32", GATES)
    assert (judgement.flips_outside_margin, judgement.verdict) == (1, "failed")


def test_a_difference_beyond_the_share_of_the_range_fails_without_any_flip() -> None:
    judgement = judge(compare([[5.0, -5.0]], [[5.01, -5.0]]), "fp32", GATES)
    assert (judgement.flips, judgement.verdict) == (0, "failed")


def test_the_params_decide_what_is_allowed() -> None:
    lenient = GATES.model_copy(update={"fp32": Fp32Gate(max_logit_difference=0.1, flip_margin=1e-3)})
    assert judge(compare([[5.0, -5.0]], [[5.01, -5.0]]), "fp32", lenient).verdict == "passed"


@pytest.mark.parametrize(
    ("n_frames", "flips", "expected"),
    [(20, 1, "passed"), (20, 2, "failed"), (2000, 2, "passed"), (2000, 3, "failed")],
)
def test_half_precision_may_flip_one_frame_or_one_in_a_thousand(n_frames: int, flips: int, expected: str) -> None:
    assert verdict(of_counts((n_frames // 2, n_frames // 2), (flips, 0)), "fp16") == expected


@pytest.mark.parametrize(
    ("counts", "wrong", "expected"),
    [
        ((10, 10), (1, 0), "passed"),  # one frame always may
        ((10, 10), (1, 1), "failed"),  # two of twenty in all, though one of each
        ((200, 200), (4, 0), "passed"),  # 1 in 100 of all, 2 in 100 of the class
        ((200, 200), (3, 2), "failed"),  # 5 of 400
        ((50, 950), (1, 0), "passed"),
        ((50, 950), (2, 0), "failed"),  # 2 of 1,000, but 4 in 100 of one class
    ],
)
def test_int8_may_cost_a_point_in_all_and_two_of_a_class(
    counts: tuple[int, int], wrong: tuple[int, int], expected: str
) -> None:
    assert verdict(of_counts(counts, wrong), "int8") == expected


@pytest.mark.parametrize("few", [9, 1, 0])
def test_a_class_with_too_few_frames_leaves_int8_undecided_and_says_how_many_are_needed(few: int) -> None:
    judgement = judge(of_counts((100, few)), "int8", GATES)
    assert judgement.verdict == "undecidable"
    assert judgement.reasons == (f"too few frames to tell (蓝色 {few}); at least 10 of each class are needed",)


def test_enough_frames_of_each_class_decide() -> None:
    assert verdict(of_counts((100, 10)), "int8") == "passed"


def test_what_is_lost_beyond_doubt_fails_however_few_frames_there_are() -> None:
    assert verdict(of_counts((100, 9), (0, 2)), "int8") == "failed"


def test_ten_frames_show_a_class_that_loses_four_in_ten_nineteen_times_in_twenty() -> None:
    lost = np.random.default_rng(0).binomial(10, 0.4, 200_000)
    assert (lost > 1).mean() == pytest.approx(0.954, abs=0.002)


def test_frames_that_the_graph_gains_are_no_loss() -> None:
    right = of_counts((20, 20), (5, 5))
    gained = LogitComparison(CLASSES, right.truth, right.graph_logits, right.torch_logits)
    judgement = judge(gained, "int8", GATES)
    assert judgement.top1_drop == -0.25
    assert judgement.verdict == "passed"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_answer_that_is_no_number_fails_and_leaves_no_number_in_the_report(precision: str) -> None:
    judgement = judge(compare([[5.0, -5.0]], [[np.nan, np.inf]]), precision, GATES)
    assert judgement.verdict == "failed"
    assert judgement.reasons == ("a logit is not a finite number",)
    assert judgement.max_abs_logit_difference is None


def test_torch_without_a_number_is_an_error() -> None:
    with pytest.raises(DataError, match="train again"):
        compare([[np.nan, 0.0]], [[0.0, 0.0]])


@pytest.mark.parametrize(("moved", "verdict"), [(0.01, PASSED), (0.03, FAILED), (math.nan, FAILED)])
def test_fp32_fails_where_the_known_score_is_another(moved: float, verdict: str) -> None:
    logits = [[2.0, 0.0], [0.0, 2.0]]
    scores = np.array([1.0, 0.5], np.float32)
    compared = dataclasses.replace(compare(logits, logits), torch_scores=scores, graph_scores=scores + moved)
    assert judge(compared, "fp32", GATES).verdict == verdict
    if verdict == FAILED:
        assert judge(compared, "fp32", GATES).reasons[0].startswith("largest score difference")
    assert judge(dataclasses.replace(compared, torch_scores=None), "fp32", GATES).verdict == PASSED
