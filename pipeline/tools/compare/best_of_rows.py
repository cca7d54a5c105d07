"""How much the best of several rows shows above the truth by chance alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class BestOfRows:
    """What the best of several equally good rows would show."""

    n_rows: int
    n_clips: int
    share: float  # of the clips that each row truly gets right
    expected_share: float  # that the best row shows, on average over many tables
    interval_above_truth: float  # how often the best row's exact 95 % interval lies above the true share

    @property
    def sentence(self) -> str:
        """The numbers in words."""
        share, expected = 100 * self.share, 100 * self.expected_share
        return (
            f"If all {self.n_rows} rows were equally good, with {share:.1f} % of {self.n_clips} clips right, "
            f"the best of them would show {expected:.1f} % on average, {expected - share:.1f} points above the truth, "
            f"and its 95 % interval would lie above the truth in {100 * self.interval_above_truth:.0f} of 100 tables"
        )


def best_of_rows(n_rows: int, n_clips: int, share: float) -> BestOfRows:
    """Compute exactly what the best of equal rows shows, where their clips are right independently of one another.

    The best row has at most k right clips where every row has: P(best <= k) = P(one row <= k) ** n_rows. Rows that err
    on the same clips differ less, so this is the most that chance does.

    Args:
        n_rows: from which the best is taken; at least one.
        n_clips: that each row is judged on; at least one.
        share: of the clips that each row truly gets right, from 0 to 1.
    """
    counts = np.arange(n_clips + 1)
    best_at_most = stats.binom.cdf(counts, n_clips, share) ** n_rows
    best_is = np.diff(best_at_most, prepend=0.0)
    # The exact interval lies above the truth where so many right clips, or more, have a probability below 2.5 %.
    is_above = stats.binom.sf(counts - 1, n_clips, share) < 0.025
    return BestOfRows(n_rows, n_clips, share, float(best_is @ counts) / n_clips, float(best_is[is_above].sum()))
