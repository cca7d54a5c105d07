"""Intervals of a share of right answers, over clips and over frames; and how many clips make one narrow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pipeline.base.numbers.checked_values import Interval, ValueOrReason
from pipeline.base.numbers.share_intervals import exact_interval, power_of_error, share_interval

GROUPS_FOR_A_BOOTSTRAP = 30  # below, it says little more than the interval over clips
RESAMPLES = 10_000
_DRAWS_AT_ONCE = 5_000_000  # 40 MB of numbers, however many groups there are


def more_to_halve(n_right: int, n: int, n_folds: int | None = None) -> int:
    """Count the additional clips that make the interval of n_right of n half as wide, if the share stays.

    This is the smallest m - n for which the interval of m x (n_right / n) of m is at most half as wide as that of
    n_right of n. For a share between 0 and 1 the width falls with the square root of n, so that the count tends to 3 n.
    For a share of 0 or 1 the width falls with n itself, and the count tends to n. An interval over no clips is 1 wide;
    all new clips are then taken to be right.

    Args:
        n_right: clips that are right.
        n: judged clips.
        n_folds: as in `share_interval`; it is taken to stay.
    """
    share = n_right / n if n else 1.0
    sizes = np.arange(
        max(n, 1), 4 * n + 50 if n_folds is None else 8 * n + 1000
    )  # more than enough: 1 clip needs 5 more
    narrow = _widths(share, sizes, n_folds) <= share_interval(n_right, n, n_folds).width / 2
    return int(sizes[np.argmax(narrow)]) - n


def width_of_share(share: float, n: int, n_folds: int | None) -> float:
    """The width of the interval over n clips, if that share of them is right (which need not be a whole number).

    Args:
        share: of the clips that are right.
        n: judged clips.
        n_folds: as in `share_interval`.
    """
    return float(_widths(share, np.array([n]), n_folds)[0])


def clips_for_width(share: float, width: float, n_folds: int | None) -> int:
    """Count the clips whose interval is at most so wide.

    Args:
        share: of the clips that are right.
        width: between 0 and 1.
        n_folds: as in `share_interval`.
    """
    n_clips = 1
    while width_of_share(share, n_clips, n_folds) > width:
        n_clips += 1
    return n_clips


def clips_that_show_most_are_right() -> int:
    """Count the clips whose interval lies above one half if all of them are right."""
    n_clips = 1
    while exact_interval(n_clips, n_clips).low <= 1 / 2:
        n_clips += 1
    return n_clips


def _widths(share: float, sizes: NDArray[np.int64], n_folds: int | None) -> NDArray[np.float64]:
    """Widths of the interval (sizes,), for a number of right clips that need not be whole."""
    n_right = share * sizes
    low = np.zeros(len(sizes)) if share == 0 else special.betaincinv(n_right, sizes - n_right + 1, 0.025)
    high = np.ones(len(sizes)) if share == 1 else special.betainccinv(n_right + 1, sizes - n_right, 0.025)
    widths: NDArray[np.float64] = 1 - (1 - high) ** power_of_error(n_folds, sizes) - low
    return widths


def cluster_bootstrap_interval(
    groups: Sequence[str], is_right: NDArray[np.bool_], seed: int
) -> ValueOrReason[Interval]:
    """95 % percentile interval of frame accuracy, by resampling whole groups; not known below 30 groups.

    The groups that are drawn from are the given ones and two of average size, one all right and one all wrong. Without
    these two the interval knows no other clips than those that were seen: for 30 clips without a mistake it would be
    [1, 1], and where 97 % of frames are right it may hold the truth 68 % of the time (benchmarks/coverage.py).

    Args:
        groups: (n,) the group of each frame.
        is_right: (n,) whether the network calls each frame right.
        seed: of the draws.
    """
    names, group_of_frame = np.unique(np.array(groups), return_inverse=True)
    if len(names) < GROUPS_FOR_A_BOOTSTRAP:
        return ValueOrReason(None, f"{len(names)} groups; a bootstrap needs at least {GROUPS_FOR_A_BOOTSTRAP}")
    n_frames = np.bincount(group_of_frame)
    n_right = np.bincount(group_of_frame, weights=is_right).astype(np.float64)
    return ValueOrReason(Interval(*bootstrap_percentiles(n_right, n_frames, seed, RESAMPLES)), None)


def paired_bootstrap_interval(gains: NDArray[np.float64], n_frames: NDArray[np.int64], seed: int) -> list[float] | None:
    """95 % interval of the difference of two frame accuracies, by resampling whole groups; None below 30 groups.

    Args:
        gains: (groups,) frames that the first network called right, less those that the second called right.
        n_frames: (groups,) frames of each group.
        seed: of the draws.
    """
    if len(gains) < GROUPS_FOR_A_BOOTSTRAP:
        return None
    halves = bootstrap_percentiles((gains + n_frames) / 2, n_frames, seed, RESAMPLES)  # -1 to 1 becomes 0 to 1
    return [2 * end - 1 for end in halves]


def bootstrap_percentiles(
    n_right: NDArray[np.float64], n_frames: NDArray[np.int64], seed: int, n_resamples: int
) -> list[float]:
    """The two ends of the interval of `cluster_bootstrap_interval`, from counts by group.

    Args:
        n_right: (groups,) frames that the network calls right.
        n_frames: (groups,) frames.
        seed: of the draws.
        n_resamples: how often the groups are drawn.
    """
    n_groups, mean_size = len(n_frames), n_frames.mean()
    drawn_right, drawn_frames = np.append(n_right, [mean_size, 0.0]), np.append(n_frames, [mean_size, mean_size])
    generator = np.random.default_rng(seed)
    accuracy, at_once = [], max(1, _DRAWS_AT_ONCE // n_groups)
    for start in range(0, n_resamples, at_once):
        drawn = generator.integers(n_groups + 2, size=(min(at_once, n_resamples - start), n_groups))
        accuracy.append(drawn_right[drawn].sum(axis=1) / drawn_frames[drawn].sum(axis=1))
    low, high = np.percentile(np.concatenate(accuracy), [2.5, 97.5])
    return [float(low), float(high)]
