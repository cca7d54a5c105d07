"""How much a picture looks like the training pictures: a number from its pooled features, low for unknown material.

The number is the sum of two cosines. The first is the largest cosine to a prototype; each class has a few. It
tells pictures that are nothing like the classes. The second is the largest cosine to the mean of a class, after
whitening: directions in which pictures of one class differ count less. It tells pictures that are near to a class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.decomposition import PCA
from torch import Tensor

from runtime.answers import Answers

PROTOTYPES = 4  # of a class, at most
WHITENED = 32  # directions, at most; more take space on the device and tell no more
SHORTEST = 1e-6  # length of features, so that none is divided by 0

Array = NDArray[np.float32]


@dataclass(frozen=True)
class KnownScore:
    """What the score of a picture is computed from. Every column of the three matrices has one entry a channel."""

    prototypes: Array  # (channels, prototypes), of length 1
    middle: Array  # (channels,) the mean of the training pictures
    class_directions: Array  # (channels, classes) the classes' means less the middle, whitened twice
    common_directions: Array  # (channels, directions) in which pictures of one class differ; of length 0 to 1

    def __post_init__(self) -> None:
        for field in fields(self):
            array, n_axes = getattr(self, field.name), 1 if field.name == "middle" else 2
            if (
                array.ndim != n_axes
                or array.size == 0
                or len(array) != len(self.middle)
                or not np.isfinite(array).all()
            ):
                raise ValueError(f"found {field.name} {array.shape}; expected finite numbers, a row for each channel")

    def __call__(self, pooled: Array) -> Array:
        """Compute the scores (n,) of pooled features (n, channels)."""
        features = pooled.astype(np.float64)
        centred = features - self.middle
        nearest = (features @ self.prototypes).max(axis=1) / np.maximum(np.linalg.norm(features, axis=1), SHORTEST)
        squares = np.square(centred).sum(axis=1) - np.square(centred @ self.common_directions).sum(axis=1)
        whitened = (centred @ self.class_directions).max(axis=1) / np.sqrt(np.maximum(squares, SHORTEST**2))
        scores: Array = (nearest + whitened).astype(np.float32)
        return scores

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the arrays by name, as a checkpoint holds them."""
        return {field.name: torch.from_numpy(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> KnownScore:
        """Return the score of `to_tensors`.

        Raises:
            KeyError, TypeError, ValueError: a tensor is missing, is none, or has another shape.
        """
        arrays = {field.name: tensors[field.name] for field in fields(cls)}
        if not all(isinstance(tensor, Tensor) and tensor.dtype == torch.float32 for tensor in arrays.values()):
            raise TypeError("found values of the known score that are no tensors of float32")
        return cls(**{name: tensor.numpy() for name, tensor in arrays.items()})


def known_score_from_plain(value: Mapping[str, Tensor] | None) -> KnownScore | None:
    """Return the score that a checkpoint holds, if it holds one.

    Raises:
        KeyError, TypeError, ValueError: as `KnownScore.from_tensors`.
    """
    return None if value is None else KnownScore.from_tensors(value)


def answers_of(logits: Array, pooled: Array, score: KnownScore | None) -> Answers:
    """Return logits and scores together; without a known score the largest logit stands in its place.

    Args:
        logits: (n, classes).
        pooled: (n, channels), the input of the head.
        score: of the head's training pictures.
    """
    return Answers.of_logits(logits) if score is None else Answers(logits, score(pooled))


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
