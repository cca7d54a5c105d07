"""Features in two dimensions: near ones stay near, and the same ones give the same points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.projection import MOST_POINTS, sample_positions, to_plane


def two_clouds(n: int, apart: float) -> NDArray[np.float32]:
    """The first half of the points around zero, the second half `apart` from them."""
    points = np.random.default_rng(0).normal(0, 1, (n, 30))
    points[n // 2 :] += apart
    return points.astype(np.float32)


def separated(points: NDArray[np.float32]) -> bool:
    """Whether every point's nearest neighbour is of its own half."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + np.diag(np.full(len(points), np.inf))
    half = np.arange(len(points)) >= len(points) // 2
    return bool((half[distances.argmin(axis=1)] == half).all())


def test_clouds_that_are_apart_stay_apart_and_clouds_that_are_not_do_not() -> None:
    apart, mixed = to_plane(two_clouds(60, 8.0)), to_plane(two_clouds(60, 0.0))
    assert apart.tsne is not None
    assert mixed.tsne is not None
    assert separated(apart.pca)
    assert separated(apart.tsne)
    assert not separated(mixed.tsne)
    assert apart.pca_shares[0] > 0.5 > mixed.pca_shares[0]


def test_the_same_features_give_the_same_points() -> None:
    first, second = (to_plane(two_clouds(40, 1.0)) for _ in range(2))
    assert np.array_equal(first.pca, second.pca)
    assert first.tsne is not None
    assert second.tsne is not None
    assert np.array_equal(first.tsne, second.tsne)


def test_few_points_or_points_that_are_all_the_same_have_no_tsne() -> None:
    for features in (two_clouds(6, 1.0), two_clouds(1, 0.0), np.ones((20, 5), np.float32), np.ones((9, 1), np.float32)):
        projection = to_plane(features)
        assert projection.tsne is None
        assert projection.pca.shape == (len(features), 2)
        assert np.isfinite(projection.pca).all()


def test_of_very_many_a_sample_is_drawn_that_is_always_the_same() -> None:
    assert sample_positions(5).tolist() == [0, 1, 2, 3, 4]
    positions = sample_positions(10 * MOST_POINTS)
    assert len(set(positions.tolist())) == MOST_POINTS
    assert positions.tolist() == sorted(positions.tolist())
    assert np.array_equal(positions, sample_positions(10 * MOST_POINTS))
