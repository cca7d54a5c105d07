from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.quality import brightness, phash, sharpness


@pytest.fixture(scope="module")
def scene_hwc() -> NDArray[np.uint8]:
    """Blobs of many sizes: (480, 640, 3) RGB."""
    coarse = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def bits_apart(left: str, right: str) -> int:
    return (int(left, 16) ^ int(right, 16)).bit_count()


def test_blur_lowers_sharpness_step_by_step(scene_hwc: NDArray[np.uint8]) -> None:
    posterised = scene_hwc // 64 * 64  # hard edges
    blurred = [np.asarray(cv2.GaussianBlur(posterised, (0, 0), sigma), dtype=np.uint8) for sigma in (2, 5, 15)]
    values = [sharpness(picture) for picture in (posterised, *blurred)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 20 * values[1] > 20 * values[3]


def test_sharpness_hardly_depends_on_the_resolution(scene_hwc: NDArray[np.uint8]) -> None:
    larger = np.asarray(cv2.resize(scene_hwc, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    assert sharpness(larger) == pytest.approx(sharpness(scene_hwc), rel=0.2)


def test_sharpness_of_the_smallest_pictures_is_a_number() -> None:
    for shape in ((1, 1, 3), (1, 2000, 3), (3, 1, 3)):
        assert sharpness(np.zeros(shape, np.uint8)) == 0


@pytest.mark.parametrize(("colour", "luma"), [((0, 0, 0), 0), ((255, 255, 255), 255), ((255, 0, 0), 76)])
def test_brightness_is_the_mean_luma(colour: tuple[int, int, int], luma: float) -> None:
    assert brightness(np.full((4, 6, 3), colour, np.uint8)) == luma


def test_the_hash_is_sixteen_hex_digits(scene_hwc: NDArray[np.uint8]) -> None:
    assert len(phash(scene_hwc)) == 16
    assert int(phash(scene_hwc), 16) > 0


def test_the_hash_outlives_compression_size_and_light(scene_hwc: NDArray[np.uint8]) -> None:
    encoded = cv2.imencode(".jpg", scene_hwc, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    changed = [
        cv2.imdecode(encoded, cv2.IMREAD_COLOR),
        cv2.resize(scene_hwc, (320, 240), interpolation=cv2.INTER_AREA),
        (scene_hwc * 0.8).astype(np.uint8),
    ]
    assert all(bits_apart(phash(scene_hwc), phash(np.asarray(picture))) <= 4 for picture in changed)


def test_the_hash_tells_other_pictures_apart(scene_hwc: NDArray[np.uint8]) -> None:
    assert bits_apart(phash(scene_hwc), phash(np.ascontiguousarray(scene_hwc[::-1]))) > 16


def test_flat_pictures_have_one_hash() -> None:
    assert len({phash(np.full((48, 64, 3), level, np.uint8)) for level in (1, 90, 91, 255)}) == 1
