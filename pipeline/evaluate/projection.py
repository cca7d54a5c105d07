"""Features of many channels as points in a plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_POINTS = 1000  # of t-SNE, whose time grows faster than its points
SEED = 0
PERPLEXITY = 30.0  # of van der Maaten and Hinton 2008, who recommend 5 to 50; of few points a third of them
FEWEST_POINTS = 7  # for a perplexity of 2
_AXES = 50  # of PCA, which t-SNE gets

Points = NDArray[np.float32]  # (n, 2)


@dataclass(frozen=True)
class Projection:
    """The same points twice: along the axes of most variance, and with near ones kept near."""

    pca: Points
    pca_shares: tuple[float, float]  # of the variance, along the two axes
    tsne: Points | None  # None of fewer than FEWEST_POINTS
    perplexity: float | None


def sampled(n: int) -> NDArray[np.int64]:
    """The positions of MOST_POINTS of n, in order, the same ones for the same n; all where there are no more."""
    if n <= MOST_POINTS:
        return np.arange(n)
    return np.sort(np.random.default_rng(SEED).choice(n, MOST_POINTS, replace=False))


def projected(features: NDArray[np.float32]) -> Projection:
    """PCA and t-SNE of features (n, channels), at least one; the same points for the same features."""
    # What several threads sum in changing order differs in its last bits, and t-SNE blows that up.
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        axes, shares = _principal(features)
        perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
        if len(features) < FEWEST_POINTS or not axes.any():
            return Projection(axes[:, :2], shares, None, None)
        return Projection(axes[:, :2], shares, _neighbourly(axes, perplexity), perplexity)


def _principal(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Coordinates (n, 2 to 50) along the principal axes, and the first two's shares of the variance."""
    from sklearn.decomposition import PCA

    n_axes = min(_AXES, *features.shape)
    if n_axes < 2 or not np.ptp(features, axis=0).any():  # one point, or all the same
        return np.zeros((len(features), 2), np.float32), (0.0, 0.0)
    pca = PCA(n_axes, svd_solver="randomized", random_state=SEED)
    axes = np.asarray(pca.fit_transform(features), np.float32)
    first, second = pca.explained_variance_ratio_[:2].tolist()
    return axes, (first, second)


def _neighbourly(axes: NDArray[np.float32], perplexity: float) -> Points:
    from sklearn.manifold import TSNE

    tsne: Any = TSNE(perplexity=perplexity, init="pca", random_state=SEED)
    return np.asarray(tsne.fit_transform(axes), np.float32)
