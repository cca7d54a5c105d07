"""What a careless shuffle would have claimed, against what clips that were never seen give: the price of a leak."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDS = 5
FEWEST_GROUPS = 3  # of a class, one for each of the fewest folds
SEEDS = 3
MOST_FRAMES = 2000  # more make the two rules slower and their difference no clearer

STRENGTH = 0.01  # of the probe: a thousand standardised features separate some hundred frames in any case

Floats = NDArray[np.float32]
Names = NDArray[np.str_]
Numbers = NDArray[np.int64]


def thinned(n: int) -> slice:
    """Every frame of n, or every second, third … where they are more than MOST_FRAMES."""
    return slice(None, None, -(-n // MOST_FRAMES))


def counterfactual(features: Floats, labels: Sequence[str], groups: Sequence[str]) -> tuple[dict[str, Any] | None, str]:
    """A linear probe judged twice by cross-validation: frames shuffled, and groups kept whole.

    Only the rule of folding differs: the same frames, the same features (of a backbone that has not seen them), the
    same logistic regression on standardised features, and as many folds.

    Args:
        features: (n, channels), of kept original frames in the order of their paths; of very many a part (`thinned`).
        labels: (n,) their classes.
        groups: (n,) their groups.

    Returns:
        `shuffled` and `grouped` (shares of frames right, means over the seeds), `difference` (the first less the
        second), `spread` (largest less smallest difference of a seed) and a sentence; or None with the reason.
    """
    y, of_group = np.asarray(labels), np.asarray(groups)
    n_folds = min(FOLDS, _fewest_groups(y, of_group))
    if n_folds < FEWEST_GROUPS or len(set(y)) < 2:
        return None, f"needs two classes with at least {FEWEST_GROUPS} clips or photos each"
    seeds = range(SEEDS)
    shuffled = [_accuracy(features, y, _folds(n_folds, seed, y, None)) for seed in seeds]
    grouped = [_accuracy(features, y, _folds(n_folds, seed, y, of_group)) for seed in seeds]
    differences = [one - other for one, other in zip(shuffled, grouped, strict=True)]
    claimed, honest = statistics.fmean(shuffled), statistics.fmean(grouped)
    return {
        "shuffled": claimed,
        "grouped": honest,
        "difference": statistics.fmean(differences),
        "spread": max(differences) - min(differences),
        "n_frames": len(y),
        "n_groups": len(set(of_group)),
        "n_folds": n_folds,
        "n_seeds": SEEDS,
        "sentence": f"a careless shuffle would have claimed {claimed:.1%}; on new clips expect {honest:.1%}",
    }, ""


def _fewest_groups(labels: Names, groups: Names) -> int:
    of_class: dict[str, set[str]] = defaultdict(set)
    for label, group in zip(labels, groups, strict=True):
        of_class[label].add(group)
    return min(map(len, of_class.values()))


def _folds(n_folds: int, seed: int, labels: Names, groups: Names | None) -> Iterator[tuple[Numbers, Numbers]]:
    """Positions to learn from and to hold out, with groups kept whole where they are given."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    folds: Iterator[tuple[Numbers, Numbers]] = kind(n_folds, shuffle=True, random_state=seed).split(
        labels, labels, groups
    )
    return folds


def _accuracy(x: Floats, labels: Names, folds: Iterator[tuple[Numbers, Numbers]]) -> float:
    """The share of frames that the probe of the other folds gets right."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    right = []
    for learned, held_out in folds:
        # The principal axes of all learned frames lose nothing of a probe with an L2 penalty, and make it much faster.
        # Of more frames than features, the features' covariance gives the same axes in three quarters of the time.
        axes = PCA(svd_solver="covariance_eigh" if len(learned) > x.shape[1] else "full")
        probe = make_pipeline(StandardScaler(), axes, LogisticRegression(C=STRENGTH, max_iter=1000, tol=1e-3))
        probe.fit(x[learned], labels[learned])
        right.append(probe.predict(x[held_out]) == labels[held_out])
    return float(np.concatenate(right).mean())
