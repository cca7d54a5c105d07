from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pipeline.evaluate.paired import PairedTest, paired_test


def by_counts(both: int, trained_alone: int, baseline_alone: int, neither: int) -> PairedTest:
    """The test over so many clips of each kind."""
    counts = [both, trained_alone, baseline_alone, neither]
    return paired_test(np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts))


def test_where_both_are_right_on_the_same_clips_the_test_cannot_tell() -> None:
    same = by_counts(12, 0, 0, 3)
    assert (same.verdict, same.p, same.difference) == ("cannot tell", 1.0, 0.0)
    assert same.sentence == "Training and the baseline are right on the same of 15 clips: these cannot tell"


def test_p_is_the_two_tails_of_a_fair_coin_over_the_clips_that_differ() -> None:
    planted = by_counts(20, 9, 1, 5)
    tail = sum(math.comb(10, k) for k in (0, 1)) / 2**10
    assert planted.p == pytest.approx(2 * tail)
    assert planted.difference == pytest.approx(8 / 35)
    assert planted.verdict == "better"
    assert planted.sentence.startswith("Training made it better: training alone is right on 9 clips, the baseline")


def test_five_clips_in_favour_are_not_enough_and_six_are() -> None:
    assert by_counts(10, 5, 0, 0).verdict == "cannot tell"  # p = 1/16
    assert "do not show whether training made it better" in by_counts(10, 5, 0, 0).sentence
    assert by_counts(10, 6, 0, 0).verdict == "better"


def test_clips_that_both_judge_alike_change_nothing_but_the_difference() -> None:
    few, many = by_counts(1, 7, 1, 0), by_counts(500, 7, 1, 500)
    assert few.p == many.p
    assert few.difference > many.difference


def test_a_network_that_training_made_worse_is_called_worse() -> None:
    worse = by_counts(3, 0, 8, 0)
    assert worse.verdict == "worse"
    assert worse.sentence.startswith("Training made it worse")
    assert worse.p == by_counts(3, 8, 0, 0).p


def test_the_entries_of_the_report() -> None:
    assert by_counts(2, 1, 1, 0).to_json() == {
        "n_clips": 4, "better": 1, "worse": 1, "difference": 0.0, "p": 1.0, "verdict": "cannot tell",
        "sentence": "These clips do not show whether training made it better: training alone is right on 1 clip, the "
        "baseline alone on 1 (p = 1, exact McNemar test over 4 clips)",
    }  # fmt: skip


def test_answers_to_different_clips_are_not_compared() -> None:
    with pytest.raises(ValueError, match="3 and 4 clips; expected the same clips"):
        paired_test(np.ones(3, dtype=bool), np.ones(4, dtype=bool))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 0, 0, 0.0, 1.0), "n_clips: found 0"),
        ((3, 2, 2, 0.0, 1.0), "better and worse: found 4; expected at most 3 clips"),
        ((3, -1, 2, -1.0, 1.0), "better and worse"),
        ((4, 2, 1, 0.5, 1.0), "difference: found 0.5; expected 0.25"),
        ((4, 2, 1, 0.25, 1.5), "p: found 1.5"),
    ],
)
def test_a_test_that_cannot_be_is_refused(values: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PairedTest(*values)
