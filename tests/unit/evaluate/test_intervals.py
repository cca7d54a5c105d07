from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from pipeline.base.numbers.checked_values import Interval
from pipeline.base.numbers.share_intervals import exact_interval, out_of_fold_interval, share_interval
from pipeline.evaluate.intervals import (
    bootstrap_percentiles,
    clips_for_width,
    clips_that_show_most_are_right,
    cluster_bootstrap_interval,
    more_to_halve,
    width_of_share,
)
from tests.support import numbers_by_hand as by_hand


def test_three_right_of_three_say_no_more_than_29_percent() -> None:
    interval = exact_interval(3, 3)
    assert interval.low == pytest.approx(0.2924, abs=1e-4)
    assert interval.high == 1.0


def test_no_clip_says_nothing() -> None:
    assert exact_interval(0, 0) == Interval(0.0, 1.0)


def test_the_exact_interval_is_the_binomials_own_tail() -> None:
    low = exact_interval(8, 10).low
    tail = sum(math.comb(10, k) * low**k * (1 - low) ** (10 - k) for k in range(8, 11))
    assert tail == pytest.approx(0.025)


@pytest.mark.parametrize(("n_right", "n"), [(0, 5), (5, 5), (1, 2), (8, 10), (109, 120), (1, 5000)])
def test_the_exact_interval_is_that_of_scipys_binomial_test(n_right: int, n: int) -> None:
    expected = stats.binomtest(n_right, n).proportion_ci(confidence_level=0.95, method="exact")
    found = exact_interval(n_right, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(("n_right", "n"), [(-1, 3), (4, 3)])
def test_more_right_than_there_are_is_refused(n_right: int, n: int) -> None:
    with pytest.raises(ValueError, match=rf"{n_right} right of {n}; expected 0 to {n}"):
        exact_interval(n_right, n)


def test_no_bootstrap_is_shown_below_thirty_groups() -> None:
    right = np.ones(29, dtype=bool)
    interval = cluster_bootstrap_interval([str(i) for i in range(29)], right, seed=0)
    assert (interval.value, interval.reason) == (None, "29 groups; a bootstrap needs at least 30")


def test_the_bootstrap_resamples_groups_and_not_frames() -> None:
    generator = np.random.default_rng(0)
    groups = [str(i) for i in range(40) for _ in range(50)]
    right = np.repeat(generator.random(40) < 0.8, 50)  # frames of a group are right or wrong together
    interval = cluster_bootstrap_interval(groups, right, seed=0).value
    assert interval is not None
    assert interval.width > 0.15  # over 2,000 independent frames it would be 0.035


def test_thirty_clips_without_a_mistake_do_not_prove_that_there_is_none() -> None:
    interval = cluster_bootstrap_interval([str(i) for i in range(30)] * 4, np.ones(120, dtype=bool), seed=0).value
    assert interval is not None
    assert interval.low < 0.93
    assert interval.high == 1.0


def test_a_clip_counts_by_its_frames() -> None:
    n_right, n_frames = np.array([1.0] * 30 + [70.0]), np.array([1] * 30 + [100])
    low, high = bootstrap_percentiles(n_right, n_frames, 0, 2000)
    assert low < 100 / 130 < high
    assert (low, high) != tuple(bootstrap_percentiles(n_right / n_frames, np.ones(31, dtype=int), 0, 2000))


@pytest.mark.parametrize(("n_right", "n"), [(3, 3), (0, 4), (9, 10), (5, 10), (70, 100)])
def test_so_many_more_clips_halve_the_interval_and_one_less_does_not(n_right: int, n: int) -> None:
    share, m = n_right / n, n + more_to_halve(n_right, n)

    def width(size: int) -> float:
        right = share * size
        lowest = 0.0 if right == 0 else stats.beta.ppf(0.025, right, size - right + 1)
        return (1.0 if right == size else stats.beta.ppf(0.975, right + 1, size - right)) - lowest

    assert width(m) <= exact_interval(n_right, n).width / 2 < width(m - 1)


def test_halving_takes_three_times_as_many_more_where_there_are_many_and_the_share_is_in_between() -> None:
    assert more_to_halve(5000, 10_000) / 10_000 == pytest.approx(3, rel=0.02)
    assert more_to_halve(1000, 1000) / 1000 == pytest.approx(1, rel=0.02)
    assert more_to_halve(0, 0) == 6


def test_out_of_fold_the_lower_end_is_exact_and_the_error_at_the_upper_end_is_that_of_all_clips() -> None:
    for n_right, n, n_folds in [(18, 20, 5), (3, 4, 2), (0, 6, 3), (70, 100, 5)]:
        low, high = by_hand.exact_interval(n_right, n)
        interval = out_of_fold_interval(n_right, n, n_folds)
        assert interval.low == pytest.approx(low)
        assert 1 - interval.high == pytest.approx(math.exp(_power(n_folds, n) * math.log(1 - high)))
        assert share_interval(n_right, n, n_folds) == interval
    assert share_interval(18, 20, None) == exact_interval(18, 20)


def test_out_of_fold_ends_that_cannot_move_stay() -> None:
    assert out_of_fold_interval(4, 4, 4) == exact_interval(4, 4)
    assert out_of_fold_interval(0, 0, 2) == Interval(0.0, 1.0)


def test_the_fewer_folds_there_are_the_further_the_upper_end_moves() -> None:
    ends = [exact_interval(17, 20).high, *(out_of_fold_interval(17, 20, n_folds).high for n_folds in (5, 4, 3, 2))]
    assert ends == sorted(set(ends))


def test_one_fold_is_no_fold() -> None:
    with pytest.raises(ValueError, match="n_folds: found 1; expected at least 2"):
        out_of_fold_interval(3, 4, 1)


def test_halving_an_interval_out_of_fold_counts_by_the_interval_that_is_shown() -> None:
    more = more_to_halve(16, 20, 5)
    wanted = out_of_fold_interval(16, 20, 5).width / 2
    assert width_of_share(0.8, 20 + more, 5) <= wanted < width_of_share(0.8, 20 + more - 1, 5)
    assert width_of_share(0.8, 20, 5) == pytest.approx(out_of_fold_interval(16, 20, 5).width)


@pytest.mark.parametrize("n_folds", [None, 5])
@pytest.mark.parametrize(("share", "width"), [(0.9, 0.4), (0.9, 0.1), (1.0, 0.2), (0.4, 0.2), (0.0, 0.5)])
def test_so_many_clips_give_an_interval_of_that_width_and_one_less_does_not(
    share: float, width: float, n_folds: int | None
) -> None:
    def of_clips(n: int) -> float:
        low, high = by_hand.exact_interval(share * n, n)
        return (high if n_folds is None else 1 - (1 - high) ** _power(n_folds, n)) - low

    n_clips = clips_for_width(share, width, n_folds)
    assert of_clips(n_clips) <= width < of_clips(n_clips - 1)


def _power(n_folds: int, n: int) -> float:
    """K / (K - 1) up to 50 clips, and then nearer to 1 by the root of their number."""
    return 1 + (n_folds / (n_folds - 1) - 1) * min(1, math.sqrt(50 / n))


@pytest.mark.parametrize("n_folds", [2, 5])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.8, 0.99, 1.0])
def test_the_interval_out_of_fold_can_always_be_halved_and_vanishes_with_many_clips(share: float, n_folds: int) -> None:
    for n in (2, 10, 100, 1000):
        n_right = round(share * n)
        more = more_to_halve(n_right, n, n_folds)
        wanted = share_interval(n_right, n, n_folds).width / 2
        assert width_of_share(n_right / n, n + more, n_folds) <= wanted
        assert width_of_share(n_right / n, n + more - 1, n_folds) > wanted
    assert width_of_share(share, 1_000_000, n_folds) < 0.01


def test_six_clips_that_are_all_right_are_the_fewest_to_show_that_most_are() -> None:
    assert clips_that_show_most_are_right() == 6
    assert exact_interval(5, 5).low < 0.5 < exact_interval(6, 6).low


def test_the_memory_of_the_bootstrap_does_not_grow_with_the_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    n_frames = np.ones(200_000, dtype=np.int64)
    tracemalloc.start()
    interval = bootstrap_percentiles(n_frames / 2, n_frames, 0, 60)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6  # 60 resamples at once would be 288 MB
    monkeypatch.setattr("pipeline.evaluate.intervals._DRAWS_AT_ONCE", 1)
    assert bootstrap_percentiles(n_frames / 2, n_frames, 0, 60) == interval
