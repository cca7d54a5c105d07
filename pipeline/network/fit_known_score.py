"""Fit the known score to training pictures.

It is apart from the score itself, so that stages and commands that only read a score need no scikit-learn.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.decomposition import PCA

from pipeline.network.known_score import SHORTEST, Array, KnownScore

PROTOTYPES = 4  # of a class, at most
WHITENED = 32  # directions, at most; more take space on the device and tell no more
MOST_PICTURES = 10_000  # that the score is fitted to; with 1,280 channels they take 0.1 GB, some times over


def spread_over_classes(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions of all pictures, or of MOST_PICTURES: of each class its share, spread evenly, and one at least.

    Args:
        labels: (n,) class numbers, in the order of the pictures' paths, so that the clips are spread over too.
    """
    if len(labels) <= MOST_PICTURES:
        return np.arange(len(labels))
    chosen = []
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        share = max(1, len(of_class) * MOST_PICTURES // len(labels))
        chosen.append(of_class[np.arange(share) * len(of_class) // share])
    return np.sort(np.concatenate(chosen))


def fit_known_score(pooled: Array, labels: NDArray[np.int64]) -> KnownScore:
    """Fit the score to training pictures. It needs no head, and no picture of unknown material.

    Pooled features are (n, channels), class numbers (n,). The same input gives the same score.
    """
    features, (classes, class_of_picture) = pooled.astype(np.float64), np.unique(labels, return_inverse=True)
    middle = features.mean(axis=0)
    means = np.stack([features[labels == label].mean(axis=0) for label in classes])
    common = _common_directions(features - means[class_of_picture])
    centred = means - middle
    whitened = centred - centred @ common @ common.T
    lengths = np.sqrt(np.maximum((centred * whitened).sum(axis=1, keepdims=True), SHORTEST**2))
    prototypes = [_prototypes(features[labels == label]) for label in classes]
    arrays = (np.concatenate(prototypes).T, middle, (whitened / lengths).T, common)
    return KnownScore(*(np.ascontiguousarray(array, np.float32) for array in arrays))


def _prototypes(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a few directions (prototypes, channels) of length 1 that stand for the pictures of a class."""
    directions = _of_length_one(features)
    n_prototypes = min(PROTOTYPES, len(np.unique(directions, axis=0)))
    return _of_length_one(KMeans(n_prototypes, n_init=3, random_state=0).fit(directions).cluster_centers_)


def _common_directions(within: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the directions (channels, directions) in which pictures differ from their class's mean.

    The covariance is shrunk (Ledoit and Wolf, 2004). Outside the first directions it is taken to be the same in all.
    A direction's length is the share of its variance that is more than that, so that for a picture y of squared length
    y·y the whitened squared length is y·y - |y @ directions|².
    """
    n_pictures, n_channels = within.shape
    total = float(np.square(within).sum()) / n_pictures
    n_directions = min(WHITENED, n_pictures - 1, n_channels - 1)
    if total == 0 or n_directions == 0:  # one picture a class: nothing is known about how they differ
        return np.zeros((n_channels, 1))
    shrinkage = float(ledoit_wolf_shrinkage(within, assume_centered=True))
    axes = PCA(n_directions, svd_solver="randomized", random_state=0).fit(within)
    variances = axes.explained_variance_ * (n_pictures - 1) / n_pictures
    rest = (total - variances.sum()) / (n_channels - n_directions)
    elsewhere = shrinkage * total / n_channels + (1 - shrinkage) * max(rest, 0.0)
    more = (1 - shrinkage) * variances
    directions: NDArray[np.float64] = axes.components_.T * np.sqrt(more / (more + elsewhere))
    return directions


def _of_length_one(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    of_length_one: NDArray[np.float64] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), SHORTEST)
    return of_length_one
