"""The best of several equal rows shows more than the truth, and the page says how much."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.base.numbers.share_intervals import exact_interval
from pipeline.tools.compare.best_of_rows import best_of_rows

N_TABLES = 4000


@pytest.mark.parametrize(("n_rows", "n_clips", "share"), [(9, 60, 0.9), (3, 20, 0.6), (45, 200, 0.75)])
def test_the_exact_numbers_are_those_of_a_simulation(n_rows: int, n_clips: int, share: float) -> None:
    best = np.random.default_rng(0).binomial(n_clips, share, (N_TABLES, n_rows)).max(axis=1)
    is_above = {count: exact_interval(int(count), n_clips).low > share for count in np.unique(best)}
    computed = best_of_rows(n_rows, n_clips, share)
    assert computed.expected_share == pytest.approx(best.mean() / n_clips, abs=0.002)
    assert computed.interval_above_truth == pytest.approx(np.mean([is_above[count] for count in best]), abs=0.02)


def test_nine_equal_rows_at_90_percent_show_95_and_their_interval_misses_the_truth_in_12_of_100() -> None:
    best = best_of_rows(9, 60, 0.9)
    assert round(100 * best.expected_share, 1) == 95.3
    assert round(100 * best.interval_above_truth) == 12
    assert best.sentence == (
        "If all 9 rows were equally good, with 90.0 % of 60 clips right, the best of them would show 95.3 % on "
        "average, 5.3 points above the truth, and its 95 % interval would lie above the truth in 12 of 100 tables"
    )


def test_a_single_row_is_not_flattered() -> None:
    alone = best_of_rows(1, 60, 0.9)
    assert alone.expected_share == pytest.approx(0.9)
    assert alone.interval_above_truth <= 0.025


def test_more_clips_flatter_less_and_more_rows_more() -> None:
    excess = [best_of_rows(*numbers, 0.9).expected_share for numbers in ((9, 60), (9, 600), (90, 60))]
    assert excess[1] < excess[0] < excess[2]
