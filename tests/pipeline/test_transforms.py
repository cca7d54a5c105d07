"""Copies of pictures: what lies where afterwards, and what their randomness hangs on."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.params import AffineCopy, Copy, MirrorCopy, Rotate90Copy
from pipeline.transforms import affine, generator_for, make_copy


def picture(height: int = 40, width: int = 60) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def smooth_picture() -> NDArray[np.uint8]:
    return np.asarray(cv2.GaussianBlur(picture(81, 81), (0, 0), 3), np.uint8)


def affine_copy(
    *,
    degrees: float = 0,
    translate: float = 0,
    scale: tuple[float, float] = (1, 1),
    shear: float = 0,
    fill: Literal["reflect", "nearest"] = "reflect",
) -> AffineCopy:
    return AffineCopy(name="affine", degrees=degrees, translate=translate, scale=scale, shear_degrees=shear, fill=fill)


def rng(position: int = 0) -> np.random.Generator:
    return generator_for(0, "data/frames/a.jpg", position)


@pytest.mark.parametrize(
    ("copy", "expected"),
    [
        (MirrorCopy(name="mirror_left_right"), lambda frame: frame[:, ::-1]),
        (MirrorCopy(name="mirror_top_bottom"), lambda frame: frame[::-1]),
        (Rotate90Copy(name="rotate_90"), lambda frame: np.rot90(frame, k=-1)),
    ],
)
def test_flips_and_quarter_turns_move_pixels_and_change_none(copy: Copy, expected: object) -> None:
    frame = picture()
    result = make_copy(copy, frame, rng())
    assert callable(expected)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, expected(frame))


def test_the_quarter_turn_is_clockwise() -> None:
    frame = np.zeros((2, 3, 3), np.uint8)
    frame[0, 0] = 255  # upper left goes to upper right
    turned = make_copy(Rotate90Copy(name="rotate_90"), frame, rng())
    assert turned.shape == (3, 2, 3)
    assert turned[0, -1].tolist() == [255, 255, 255]


def test_an_affine_map_with_empty_ranges_changes_nothing() -> None:
    frame = picture()
    np.testing.assert_array_equal(affine(affine_copy(), frame, rng()), frame)


def test_an_affine_map_keeps_the_size_and_the_centre() -> None:
    frame = smooth_picture()
    moved = affine(affine_copy(degrees=30, scale=(0.9, 1.1), shear=10), frame, rng())
    assert moved.shape == frame.shape
    assert not np.array_equal(moved, frame)
    assert np.abs(moved[40, 40].astype(int) - frame[40, 40]).max() <= 2


def test_a_shift_stays_within_its_share_of_each_side() -> None:
    frame = np.zeros((101, 201, 3), np.uint8)
    frame[50, 100] = 255
    places = []
    for position in range(200):
        moved = affine(affine_copy(translate=0.1), frame, rng(position))
        y, x = np.unravel_index(moved[..., 0].argmax(), moved.shape[:2])
        places.append((abs(int(x) - 100), abs(int(y) - 50)))
    assert 17 <= max(x for x, _ in places) <= 21
    assert 8 <= max(y for _, y in places) <= 11


def test_the_scale_is_drawn_from_its_range_in_either_order() -> None:
    frame = smooth_picture()
    grown, same = (affine(affine_copy(scale=scale), frame, rng()) for scale in ((1.2, 1.5), (1.5, 1.2)))
    np.testing.assert_array_equal(grown, same)
    by_hand = np.abs(grown.astype(int) - cv2.resize(frame, None, fx=1.35, fy=1.35)[14:95, 14:95]).mean()
    assert by_hand < np.abs(grown.astype(int) - frame).mean() / 2


def test_what_comes_in_from_outside_is_a_reflection_or_the_nearest_pixel() -> None:
    frame = np.zeros((20, 20, 3), np.uint8)
    frame[:, 0] = 200  # a line at the left edge: `nearest` smears it, `reflect` shows what lies behind it
    shrunk = {fill: affine(affine_copy(scale=(0.5, 0.5), fill=fill), frame, rng()) for fill in ("reflect", "nearest")}
    assert (shrunk["nearest"][10, :4] > 150).all()
    assert (shrunk["reflect"][10, :3] < 50).all()


def test_the_randomness_of_a_copy_hangs_on_seed_parent_and_position_only() -> None:
    def numbers(seed: int, parent: str, position: int) -> list[float]:
        return [float(number) for number in generator_for(seed, parent, position).random(3)]

    first = numbers(0, "a.jpg", 1)
    assert numbers(0, "a.jpg", 1) == first
    assert first not in (numbers(1, "a.jpg", 1), numbers(0, "b.jpg", 1), numbers(0, "a.jpg", 2))
    assert numbers(1, "1", 11) != numbers(11, "1", 1)


def test_the_randomness_is_the_same_on_every_machine() -> None:
    assert generator_for(7, "data/frames/鳞片石墨/a.jpg", 3).random() == 0.9816081357261877
