"""The price of a leak: the accuracy that a careless shuffle of frames would have claimed, against that on new clips."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.numbers.checked_values import ValueOrReason
from pipeline.evaluate.evaluation import Counterfactual

FOLDS = 5
FEWEST_GROUPS = 3  # of a class: each fold needs one, and cross-validation at least three folds
SEEDS = 3
MOST_FRAMES = 2000  # more frames make the two rules slower and their difference no clearer

STRENGTH = 0.01  # of the probe: a thousand standardised features separate some hundred frames in any case

Floats = NDArray[np.float32]
Names = NDArray[np.str_]
Positions = NDArray[np.int64]


def thinned(n: int) -> slice:
    """Select every frame of n, or every second, third … where they are more than MOST_FRAMES."""
    return slice(None, None, -(-n // MOST_FRAMES))


def counterfactual(features: Floats, labels: Sequence[str], groups: Sequence[str]) -> ValueOrReason[Counterfactual]:
    """Judge a linear probe twice by cross-validation: with frames shuffled, and with groups kept whole.

    Only the rule of folding differs: the same frames, the same features (of a backbone that has not seen them), the
    same logistic regression on standardised features, and as many folds.

    Args:
        features: (n, channels), of kept original frames in the order of their paths; of very many a part (`thinned`).
        labels: (n,) the class of each frame.
        groups: (n,) the group of each frame.
    """
    label_of_frame, group_of_frame = np.asarray(labels), np.asarray(groups)
    n_folds = min(FOLDS, _fewest_groups(label_of_frame, group_of_frame))
    if n_folds < FEWEST_GROUPS or len(set(label_of_frame)) < 2:
        return ValueOrReason(None, f"needs two classes with at least {FEWEST_GROUPS} clips or photos each")
    seeds = range(SEEDS)
    shuffled = [_accuracy(features, label_of_frame, _folds(n_folds, seed, label_of_frame, None)) for seed in seeds]
    grouped = [
        _accuracy(features, label_of_frame, _folds(n_folds, seed, label_of_frame, group_of_frame)) for seed in seeds
    ]
    differences = [claimed - honest for claimed, honest in zip(shuffled, grouped, strict=True)]
    result = Counterfactual(
        shuffled=statistics.fmean(shuffled),
        grouped=statistics.fmean(grouped),
        difference=statistics.fmean(differences),
        spread=max(differences) - min(differences),
        n_frames=len(label_of_frame),
        n_groups=len(set(group_of_frame)),
        n_folds=n_folds,
        n_seeds=SEEDS,
    )
    return ValueOrReason(result, None)


def _fewest_groups(labels: Names, groups: Names) -> int:
    """The number of groups of the class that has the fewest."""
    of_class: dict[str, set[str]] = defaultdict(set)
    for label, group in zip(labels, groups, strict=True):
        of_class[label].add(group)
    return min(map(len, of_class.values()))


def _folds(n_folds: int, seed: int, labels: Names, groups: Names | None) -> Iterator[tuple[Positions, Positions]]:
    """Positions to learn from and to hold out; groups are kept whole where they are given."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    folds: Iterator[tuple[Positions, Positions]] = kind(n_folds, shuffle=True, random_state=seed).split(
        labels, labels, groups
    )
    return folds


def _accuracy(features: Floats, labels: Names, folds: Iterator[tuple[Positions, Positions]]) -> float:
    """The share of frames that the probe of the other folds calls right."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    is_right = []
    doubles = features.astype(np.float64)  # products of float32 would lose the axes of small variance
    for learned, held_out in folds:
        axes = _principal_axes(doubles[learned])
        probe = make_pipeline(StandardScaler(), axes, LogisticRegression(C=STRENGTH, max_iter=1000, tol=1e-3))
        probe.fit(doubles[learned], labels[learned])
        is_right.append(probe.predict(doubles[held_out]) == labels[held_out])
    return float(np.concatenate(is_right).mean())


def _principal_axes(learned: NDArray[np.float64]) -> Any:
    """What turns features to the principal axes of all learned frames.

    They lose nothing of a probe with an L2 penalty, and make it much faster. With fewer frames than features, the
    frames' products give the same axes in a tenth of the time.
    """
    from sklearn.decomposition import PCA, KernelPCA

    if not np.ptp(learned, axis=0).any():
        return "passthrough"  # equal pictures, or a network that is dead on them, have no axes
    n_frames, n_channels = learned.shape
    return PCA(svd_solver="covariance_eigh") if n_frames > n_channels else KernelPCA(eigen_solver="dense")
