from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.network import fit_known_score as module
from pipeline.network.fit_known_score import PROTOTYPES, WHITENED, fit_known_score, spread_over_classes
from pipeline.network.known_score import KnownScore

CHANNELS, CLASSES, A_CLASS = 40, 3, 30


def _pictures(seed: int, classes: range = range(CLASSES), n: int = A_CLASS) -> tuple[NDArray[np.float32], list[int]]:
    """Features around a centre for each class, which differ much along two directions that all classes share."""
    fixed, drawn = np.random.default_rng(0), np.random.default_rng(seed)
    centres, shared = fixed.uniform(0, 2, (9, CHANNELS)), fixed.normal(size=(2, CHANNELS))
    labels = [label for label in classes for _ in range(n)]
    features = (
        5
        + centres[labels]
        + drawn.normal(size=(len(labels), 2)) @ shared
        + drawn.normal(0, 0.2, (len(labels), CHANNELS))
    )
    return features.astype(np.float32), labels


@pytest.fixture(scope="module")
def score() -> KnownScore:
    features, labels = _pictures(1)
    return fit_known_score(features, np.array(labels))


def test_new_pictures_of_the_classes_score_higher_than_those_of_a_near_class_and_far_ones(score: KnownScore) -> None:
    known, near = score(_pictures(2)[0]), score(_pictures(3, range(5, 6))[0])
    far = score(np.random.default_rng(4).normal(size=(30, CHANNELS)).astype(np.float32))
    assert np.quantile(known, 0.05) > np.quantile(near, 0.95)
    assert near.min() > far.max()


def test_a_near_class_is_told_by_the_whitened_cosine_and_not_by_the_other(score: KnownScore) -> None:
    without = dataclasses.replace(score, class_directions=np.zeros_like(score.class_directions))
    known, near = _pictures(2)[0], _pictures(3, range(5, 6))[0]
    assert score(known).min() > np.median(score(near))
    assert without(known).min() < np.median(without(near))


def test_the_score_is_the_sum_of_the_two_cosines_as_they_are_defined(score: KnownScore) -> None:
    pictures = _pictures(2)[0][:5].astype(np.float64)
    cosines = pictures @ score.prototypes / np.linalg.norm(pictures, axis=1, keepdims=True)
    precision = np.eye(CHANNELS) - score.common_directions @ score.common_directions.T
    root = np.linalg.cholesky(precision)
    features, labels = _pictures(1)
    means = np.stack([features[np.array(labels) == label].mean(axis=0) for label in range(CLASSES)]) - score.middle
    whitened, whitened_means = (pictures - score.middle) @ root, means @ root
    products = whitened @ whitened_means.T
    lengths = np.linalg.norm(whitened, axis=1)[:, None] * np.linalg.norm(whitened_means, axis=1)
    expected = cosines.max(axis=1) + (products / lengths).max(axis=1)
    assert score(_pictures(2)[0][:5]) == pytest.approx(expected, abs=1e-4)


def test_whitening_is_by_the_shrunk_covariance_within_the_classes(score: KnownScore) -> None:
    from sklearn.covariance import ledoit_wolf

    features, labels = _pictures(1)
    means = np.stack([features[np.array(labels) == label].mean(axis=0) for label in range(CLASSES)])
    covariance, _ = ledoit_wolf(features - means[labels], assume_centered=True)
    values, vectors = np.linalg.eigh(np.linalg.inv(covariance))
    ours = np.eye(CHANNELS) - score.common_directions @ score.common_directions.T
    ratios = np.einsum("ji,jk,ki->i", vectors, ours, vectors) / values
    assert ratios / ratios.mean() == pytest.approx(np.ones(CHANNELS), rel=0.15)  # 32 of 40 directions are told apart


def test_sizes_are_bounded_and_shown_by_the_shapes(score: KnownScore) -> None:
    assert score.prototypes.shape == (CHANNELS, CLASSES * PROTOTYPES)
    assert score.class_directions.shape == (CHANNELS, CLASSES)
    assert score.common_directions.shape == (CHANNELS, WHITENED)
    assert np.linalg.norm(score.prototypes, axis=0) == pytest.approx(np.ones(CLASSES * PROTOTYPES), abs=1e-6)
    assert np.linalg.norm(score.common_directions, axis=0).max() < 1


def test_the_same_pictures_give_the_same_score(score: KnownScore) -> None:
    features, labels = _pictures(1)
    again = fit_known_score(features, np.array(labels))
    for name, tensor in score.to_tensors().items():
        assert torch.equal(tensor, again.to_tensors()[name])


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_pictures_a_class_are_enough(n: int) -> None:
    features, labels = _pictures(1, n=n)
    score = fit_known_score(features, np.array(labels))
    assert np.isfinite(score(features)).all()
    assert score(features).min() > score(-features).max()


def test_pictures_that_repeat_give_fewer_prototypes() -> None:
    features, labels = _pictures(1, n=1)
    repeated = fit_known_score(np.repeat(features, 10, axis=0), np.repeat(labels, 10))
    assert repeated.prototypes.shape == (CHANNELS, CLASSES)


def test_features_of_length_0_have_a_finite_score(score: KnownScore) -> None:
    assert np.isfinite(score(np.stack([np.zeros(CHANNELS, np.float32), score.middle]))).all()


def test_a_checkpoint_gives_the_score_back(score: KnownScore) -> None:
    again = KnownScore.from_tensors(score.to_tensors())
    pictures = _pictures(2)[0]
    assert np.array_equal(again(pictures), score(pictures))


@pytest.mark.parametrize(
    ("name", "value", "error", "words"),
    [
        ("middle", None, KeyError, "middle"),
        ("middle", [0.0] * CHANNELS, TypeError, "no tensors of float32"),
        ("middle", torch.zeros(CHANNELS, dtype=torch.float64), TypeError, "no tensors of float32"),
        ("middle", torch.zeros(CHANNELS + 1), ValueError, "a row for each channel"),
        ("prototypes", torch.zeros(CHANNELS), ValueError, "prototypes"),
        ("prototypes", torch.zeros(CHANNELS, 0), ValueError, "prototypes"),
        ("common_directions", torch.full((CHANNELS, 2), float("nan")), ValueError, "finite numbers"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    score: KnownScore, name: str, value: object, error: type[Exception], words: str
) -> None:
    tensors: dict[str, object] = {**score.to_tensors(), name: value}
    if value is None:
        del tensors[name]
    with pytest.raises(error, match=words):
        KnownScore.from_tensors(tensors)  # type: ignore[arg-type]


def test_of_very_many_pictures_a_part_is_fitted_that_has_every_class(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.array([0] * 500 + [1] * 40 + [2])
    assert spread_over_classes(labels).tolist() == list(range(541))
    monkeypatch.setattr(module, "MOST_PICTURES", 60)
    chosen = spread_over_classes(labels)
    assert np.bincount(labels[chosen]).tolist() == [55, 4, 1]
    assert set(np.diff(chosen)[:54].tolist()) == {9, 10}  # spread over the clips of a class, and not its first ones
    assert len(spread_over_classes(labels[:61])) == 60  # one picture more than are fitted does not halve them
