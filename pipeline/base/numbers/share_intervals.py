"""95 % intervals of a share of right clips: exact where clips were held out, and out of fold where there are folds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pipeline.base.numbers.checked_values import Interval

_CLIPS_OF_A_FULL_MOVE = 50  # of the upper end out of fold; with more clips it moves less


def share_interval(n_right: int, n: int, n_folds: int | None) -> Interval:
    """The interval of a share of right clips: exact where clips were held out, and out of fold where there are folds.

    Args:
        n_right: clips that are right.
        n: judged clips.
        n_folds: None where clips were held out.
    """
    return exact_interval(n_right, n) if n_folds is None else out_of_fold_interval(n_right, n, n_folds)


def exact_interval(n_right: int, n: int) -> Interval:
    """The exact (Clopper-Pearson) 95 % interval of a share: 3 of 3 gives [0.29, 1], 0 of 0 gives [0, 1]."""
    if not 0 <= n_right <= n:
        raise ValueError(f"{n_right} right of {n}; expected 0 to {n}")
    # Quantiles of beta distributions. scipy.stats gives the same, and takes half a second to import.
    low = special.betaincinv(n_right, n - n_right + 1, 0.025) if n_right else 0.0
    high = special.betainccinv(n_right + 1, n - n_right, 0.025) if n_right < n else 1.0
    return Interval(float(low), float(high))


def out_of_fold_interval(n_right: int, n: int, n_folds: int) -> Interval:
    """The 95 % interval of the accuracy on new clips of the model that ships, from verdicts out of fold.

    The heads of the folds learned from (n_folds - 1) / n_folds of the clips, and the model that ships from all of them.
    So it may be better than they are. An error falls at most exponentially with the clips that are learned from. Where
    the heads of the folds have the error e, that model has at least e ** (n_folds / (n_folds - 1)). The upper end of
    the exact interval is moved by this. The more clips there are, the less a fifth more of them teaches: from 50 clips
    on the move shrinks as the interval does. The lower end stays, since the model may be no better than the heads. The
    exact interval alone may hold the truth in half of the cases only (benchmarks/coverage_out_of_fold.py).

    Args:
        n_right: clips that the head of their fold calls right.
        n: clips.
        n_folds: at least two.
    """
    exact = exact_interval(n_right, n)
    return Interval(exact.low, float(1 - (1 - exact.high) ** power_of_error(n_folds, np.array([n]))[0]))


def power_of_error(n_folds: int | None, n_clips: NDArray[np.int64]) -> NDArray[np.float64]:
    """The power of the error at the upper end, for numbers of clips (sizes,)."""
    if n_folds is None:
        return np.ones(len(n_clips))
    if n_folds < 2:
        raise ValueError(f"n_folds: found {n_folds}; expected at least 2")
    shrinking = np.minimum(1.0, np.sqrt(_CLIPS_OF_A_FULL_MOVE / np.maximum(n_clips, 1)))
    power: NDArray[np.float64] = 1 + shrinking / (n_folds - 1)
    return power
