"""Features of many channels as points in a plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_POINTS = 1000  # of t-SNE, whose time grows faster than its points
SEED = 0
PERPLEXITY = 30.0  # van der Maaten and Hinton 2008 recommend 5 to 50; few points get a third of their number
FEWEST_POINTS = 7  # for a perplexity of 2
_AXES = 50  # of PCA, which are the input of t-SNE

Points = NDArray[np.float32]  # (n, 2)


@dataclass(frozen=True)
class Projection:
    """The same points twice: along the axes of most variance (PCA), and with neighbours kept together (t-SNE)."""

    pca: Points
    pca_shares: tuple[float, float]  # of the variance, along the two axes
    tsne: Points | None  # None for fewer than FEWEST_POINTS
    perplexity: float | None


def sample_positions(n: int) -> NDArray[np.int64]:
    """Draw MOST_POINTS of n positions, in order and the same ones for the same n; all where there are no more."""
    if n <= MOST_POINTS:
        return np.arange(n)
    return np.sort(np.random.default_rng(SEED).choice(n, MOST_POINTS, replace=False))


def to_plane(features: NDArray[np.float32]) -> Projection:
    """Project features (n, channels) of at least one frame; the same features give the same points."""
    # Several threads sum in changing order: the last bits differ, and t-SNE makes large differences of them.
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        axes, shares = _pca(features)
        perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
        if len(features) < FEWEST_POINTS or not axes.any():
            return Projection(axes[:, :2], shares, None, None)
        return Projection(axes[:, :2], shares, _tsne(axes, perplexity), perplexity)


def _pca(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Coordinates (n, 2 to 50) along the principal axes, and the first two axes' shares of the variance."""
    from sklearn.decomposition import PCA

    n_axes = min(_AXES, *features.shape)
    if n_axes < 2 or not np.ptp(features, axis=0).any():  # one point, or all points the same
        return np.zeros((len(features), 2), np.float32), (0.0, 0.0)
    pca = PCA(n_axes, svd_solver="randomized", random_state=SEED)
    axes = np.asarray(pca.fit_transform(features), np.float32)
    first, second = pca.explained_variance_ratio_[:2].tolist()
    return axes, (first, second)


def _tsne(axes: NDArray[np.float32], perplexity: float) -> Points:
    from sklearn.manifold import TSNE

    tsne: Any = TSNE(perplexity=perplexity, init="pca", random_state=SEED)
    return np.asarray(tsne.fit_transform(axes), np.float32)
