from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.extract.quality import brightness, luma, phash, sharpness


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
    values = [sharpness(luma(picture)) for picture in (posterised, *blurred)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 20 * values[1] > 20 * values[3]


def test_sharpness_hardly_depends_on_the_resolution(scene_hwc: NDArray[np.uint8]) -> None:
    larger = np.asarray(cv2.resize(scene_hwc, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    assert sharpness(luma(larger)) == pytest.approx(sharpness(luma(scene_hwc)), rel=0.2)


def test_sharpness_of_the_smallest_pictures_is_a_number() -> None:
    for shape in ((1, 1), (1, 2000), (3, 1)):
        assert sharpness(np.zeros(shape, np.uint8)) == 0


@pytest.mark.parametrize(("colour", "level"), [((0, 0, 0), 0), ((255, 255, 255), 255), ((255, 0, 0), 76)])
def test_luma_weighs_colours_as_eyes_do(colour: tuple[int, int, int], level: int) -> None:
    assert (luma(np.full((4, 6, 3), colour, np.uint8)) == level).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (1079, 1921), (5000, 5000)])
def test_brightness_is_the_mean_luma_exactly(shape: tuple[int, int]) -> None:
    luma_hw = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert brightness(luma_hw) == luma_hw.sum(dtype=np.int64) / luma_hw.size
    mean = brightness(luma_hw)
    luma_hw[0, 0] ^= 1  # the negative control: one level of one pixel counts
    assert brightness(luma_hw) != mean


@pytest.mark.parametrize(
    ("shape", "measured"),
    [
        ((48, 64), (19.765665690000688, 126.36881510416667, "800003c3ffffdd43")),
        ((1080, 1920), (2090.263731267671, 127.70751012731482, "97545244d347d3ec")),
        ((700, 33), (8104.5786444081195, 127.46606060606061, "ae07018bd55f83c7")),
        ((1, 5), (0.32904153051673335, 47.0, "ad00000000000000")),
    ],
)
def test_manifests_of_one_format_hold_the_same_measures(
    shape: tuple[int, int], measured: tuple[float, float, str]
) -> None:
    y, x, channel = np.ogrid[: shape[0], : shape[1], :3]
    drawn_hwc = ((x * x + 3 * y * x // 7 + 50 * channel + (x // 16 + y // 16) * 37) % 256).astype(np.uint8)
    luma_hw = luma(drawn_hwc)
    assert (sharpness(luma_hw), brightness(luma_hw), phash(luma_hw)) == measured


def test_the_hash_is_sixteen_hex_digits(scene_hwc: NDArray[np.uint8]) -> None:
    assert len(phash(luma(scene_hwc))) == 16
    assert int(phash(luma(scene_hwc)), 16) > 0


def test_the_hash_outlives_compression_size_and_light(scene_hwc: NDArray[np.uint8]) -> None:
    encoded = cv2.imencode(".jpg", scene_hwc, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    changed = [
        cv2.imdecode(encoded, cv2.IMREAD_COLOR),
        cv2.resize(scene_hwc, (320, 240), interpolation=cv2.INTER_AREA),
        (scene_hwc * 0.8).astype(np.uint8),
    ]
    assert all(bits_apart(phash(luma(scene_hwc)), phash(luma(np.asarray(picture)))) <= 4 for picture in changed)


def test_the_hash_tells_other_pictures_apart(scene_hwc: NDArray[np.uint8]) -> None:
    assert bits_apart(phash(luma(scene_hwc)), phash(luma(np.ascontiguousarray(scene_hwc[::-1])))) > 16


def test_flat_pictures_have_one_hash() -> None:
    assert len({phash(np.full((48, 64), level, np.uint8)) for level in (1, 90, 91, 255)}) == 1
