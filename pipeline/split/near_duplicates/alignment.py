"""Alignment: one picture is laid over the other, and how well the pixels agree where the two overlap is measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.split.near_duplicates.features import FEATURES_SIDE, Features, unit_vectors

PIXELS_SIDE = 256  # pixels of the longer side of the thumbnails that are compared
LEAST_OVERLAP = 0.1  # share of the smaller picture's area

_CERTAIN = 0.85  # with this score or a higher one the map is not refined
_HOPELESS = 0.3  # with this mean correlation or a lower one no refinement helps
_SAME_FEATURE = 0.85  # cosine of two descriptors, each the other's nearest
_LEAST_INLIERS = 6
_REPROJECTION_PIXELS = 3.0
_SCALES = (1 / 3, 3.0)
_LEAST_RESPONSE = 0.03  # peak of a phase correlation; unrelated pictures stay below
_WINDOW = 15  # pixels of the square in which correlation is computed
_NOISE_VARIANCE = 4.0  # grey levels squared, as JPEG and rounding cause
_FLAT_VARIANCE = 30.0  # grey levels squared; a window below has no texture to compare
_LEAST_TEXTURE = 0.005  # share of the overlap

Grey = NDArray[np.uint8]
Map = NDArray[np.float64]  # (2, 3) pixels of the first picture to pixels of the second


@dataclass(frozen=True)
class Alignment:
    """How well two pictures agree where they overlap."""

    score: float  # local correlation that nine tenths of the textured overlap reach, -1 to 1
    mean_correlation: float  # over the textured overlap
    overlap: float  # share of the smaller picture's area
    mirrored: bool


def candidate_maps(first: Features, second: Features) -> Iterator[tuple[Map, bool]]:
    """Maps from the first picture to the second that their features agree on; True where the first is mirrored."""
    for mirrored in (False, True):
        by_features = _map_by_features(first.mirrored() if mirrored else first, second)
        if by_features is not None:
            yield by_features, mirrored


def shifted_maps(first: Grey, second: Grey) -> Iterator[tuple[Map, bool]]:
    """Shifts of the first picture over the second, for two pictures of about one size without features."""
    if max(abs(a - b) for a, b in zip(first.shape, second.shape, strict=True)) > 2:
        return
    height, width = np.minimum(first.shape, second.shape)
    if min(height, width) < 2:  # OpenCV cannot correlate a single row or column
        return
    window = cv2.createHanningWindow((int(width), int(height)), cv2.CV_32F)
    for mirrored in (False, True):
        turned = first[:, ::-1] if mirrored else first
        a, b = (np.float32(picture[:height, :width]) for picture in (turned, second))
        (x, y), response = cv2.phaseCorrelate(a - a.mean(), b - b.mean(), window)
        if response >= _LEAST_RESPONSE:
            yield np.array([[1, 0, x], [0, 1, y]], np.float64), mirrored


def align(first: Grey, second: Grey, first_to_second: Map, *, mirrored: bool) -> Alignment | None:
    """Lay the first picture over the second and compare; None where the overlap or its texture is too small.

    The map is refined where the pixels agree somewhat, but not well.

    Args:
        first: (height, width) uint8 thumbnail with a longer side of PIXELS_SIDE; mirrored here when `mirrored` is true.
        second: (height, width) uint8 thumbnail of the other picture, of the same longer side.
        first_to_second: (2, 3) affine map, in pixels of these thumbnails.
        mirrored: whether the map is for the first picture's mirror image.
    """
    turned = np.ascontiguousarray(first[:, ::-1]) if mirrored else first
    rough = _compare(turned, second, first_to_second, mirrored=mirrored)
    if rough is None or not (rough.score < _CERTAIN and rough.mean_correlation > _HOPELESS):
        return rough
    refined_map = _refined_map(turned, second, first_to_second)
    refined = None if refined_map is None else _compare(turned, second, refined_map, mirrored=mirrored)
    return rough if refined is None else max(rough, refined, key=lambda alignment: alignment.score)


def _map_by_features(first: Features, second: Features) -> Map | None:
    if min(len(first.descriptors), len(second.descriptors)) < _LEAST_INLIERS:
        return None
    cosines = unit_vectors(first.descriptors) @ unit_vectors(second.descriptors).T
    nearest = cosines.argmax(axis=1)
    mutual = cosines.argmax(axis=0)[nearest] == np.arange(len(nearest))
    matched = np.flatnonzero(mutual & (cosines.max(axis=1) >= _SAME_FEATURE))
    if len(matched) < _LEAST_INLIERS:
        return None
    # Four unknowns and not six, which fit pixels that do not agree; the refinement finds a squashed copy.
    estimate, inliers = cv2.estimateAffinePartial2D(
        first.points_xy[matched],
        second.points_xy[nearest[matched]],
        method=cv2.RANSAC,
        ransacReprojThreshold=_REPROJECTION_PIXELS,
    )
    if estimate is None or inliers.sum() < _LEAST_INLIERS:
        return None
    scale = np.sqrt(max(0.0, np.linalg.det(estimate[:, :2])))
    if not _SCALES[0] <= scale <= _SCALES[1]:
        return None
    to_pixels = PIXELS_SIDE / FEATURES_SIDE
    return np.asarray(estimate * np.array([1, 1, to_pixels]), np.float64)


def _refined_map(first: Grey, second: Grey, first_to_second: Map) -> Map | None:
    """The affine map near the given one with the best correlation (ECC); None where ECC does not converge."""
    start = cv2.invertAffineTransform(first_to_second).astype(np.float32)
    steps = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 1e-3)
    mask: Any = _warped(np.full_like(first, 255), first_to_second, second.shape)
    try:
        _, second_to_first = cv2.findTransformECC(second, first, start, cv2.MOTION_AFFINE, steps, mask, 3)
        return np.asarray(cv2.invertAffineTransform(second_to_first), np.float64)
    except cv2.error:  # not converged
        return None


def _compare(first: Grey, second: Grey, first_to_second: Map, *, mirrored: bool) -> Alignment | None:
    warped = _warped(first, first_to_second, second.shape)
    overlap = _warped(np.full_like(first, 255), first_to_second, second.shape) == 255
    smaller = min(second.size, first.size * abs(float(np.linalg.det(first_to_second[:, :2]))))
    share = float(overlap.sum()) / max(1.0, smaller)
    if share < LEAST_OVERLAP:
        return None
    correlation, texture = _local_correlation(warped, second, overlap)
    if texture.sum() < _LEAST_TEXTURE * overlap.sum():
        return None
    values = correlation[texture]
    return Alignment(float(np.quantile(values, 0.1)), float(values.mean()), min(1.0, share), mirrored)


def _warped(first: Grey, first_to_second: Map, shape: tuple[int, ...]) -> Grey:
    """The first picture laid over the second, whose shape is given; black where it does not reach."""
    return np.asarray(cv2.warpAffine(first, first_to_second, (shape[1], shape[0]), flags=cv2.INTER_LINEAR), np.uint8)


def _local_correlation(
    first: Grey, second: Grey, overlap: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Normalised correlation in the window around each pixel, and the mask of the pixels with enough texture."""
    inside = overlap.astype(np.float32)
    weight = np.maximum(_mean(inside), 1e-6)
    a, b = first.astype(np.float32) * inside, second.astype(np.float32) * inside
    mean_a, mean_b = _mean(a) / weight, _mean(b) / weight
    variance_a = np.maximum(_mean(a * a) / weight - mean_a**2, 0)
    variance_b = np.maximum(_mean(b * b) / weight - mean_b**2, 0)
    covariance = _mean(a * b) / weight - mean_a * mean_b
    correlation = (covariance + _NOISE_VARIANCE) / np.sqrt(
        (variance_a + _NOISE_VARIANCE) * (variance_b + _NOISE_VARIANCE)
    )
    texture = overlap & (weight > 0.5) & (np.maximum(variance_a, variance_b) > _FLAT_VARIANCE)
    return np.asarray(correlation, np.float32), texture


def _mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.blur(values, (_WINDOW, _WINDOW)), np.float32)
