"""Copies of pictures: where the pixels lie afterwards, and what the random numbers depend on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import TypeAdapter

from pipeline.augment.params import AffineCopy, Copy
from pipeline.augment.transforms import generator_for, make_copy

Frame = NDArray[np.uint8]
COPIES: TypeAdapter[Copy] = TypeAdapter(Copy)
RANDOM: dict[str, dict[str, Any]] = {
    values["name"]: values
    for values in (
        {
            "name": "affine",
            "degrees": 15,
            "translate": 0.1,
            "scale": [0.9, 1.1],
            "shear_degrees": 10,
            "fill": "reflect",
        },
        {"name": "rotate", "degrees": 40, "fill": "reflect"},
        {"name": "shear", "degrees": 20, "fill": "nearest"},
        {"name": "shift", "translate": 0.2, "fill": "nearest"},
        {"name": "zoom", "scale": [0.8, 1.2], "fill": "reflect"},
        {"name": "crop", "area": [0.5, 0.9]},
        {"name": "perspective", "distortion": 0.1, "fill": "reflect"},
        {"name": "brightness", "factor": [0.7, 1.3]},
        {"name": "contrast", "factor": [0.7, 1.3]},
        {"name": "saturation", "factor": [0.5, 1.5]},
        {"name": "hue", "degrees": 20},
        {"name": "blur", "sigma_pixels": [1, 3]},
        {"name": "noise", "sigma_levels": [2, 10]},
        {"name": "jpeg", "quality": [10, 90]},
    )
}


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


def copy_of(name: str, **values: object) -> Copy:
    return COPIES.validate_python({"name": name, **values})


def transformed(name: str, frame: Frame, position: int = 0, **values: object) -> Frame:
    return make_copy(copy_of(name, **values), frame, rng(position))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mirror_left_right", lambda frame: frame[:, ::-1]),
        ("mirror_top_bottom", lambda frame: frame[::-1]),
        ("rotate_90", lambda frame: np.rot90(frame, k=-1)),
        ("rotate_180", lambda frame: np.rot90(frame, k=2)),
        ("rotate_270", lambda frame: np.rot90(frame, k=1)),
    ],
)
def test_flips_and_quarter_turns_move_pixels_and_change_none(name: str, expected: Callable[[Frame], Frame]) -> None:
    frame = picture()
    result = transformed(name, frame)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, expected(frame))


def test_the_quarter_turn_is_clockwise() -> None:
    frame = np.zeros((2, 3, 3), np.uint8)
    frame[0, 0] = 255  # upper left goes to upper right
    turned = transformed("rotate_90", frame)
    assert turned.shape == (3, 2, 3)
    assert turned[0, -1].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("rotate", {"degrees": 0, "fill": "reflect"}),
        ("shear", {"degrees": 0, "fill": "reflect"}),
        ("shift", {"translate": 0, "fill": "reflect"}),
        ("zoom", {"scale": [1, 1], "fill": "reflect"}),
        ("crop", {"area": [1, 1]}),
        ("perspective", {"distortion": 0, "fill": "reflect"}),
        ("brightness", {"factor": [1, 1]}),
        ("contrast", {"factor": [1, 1]}),
        ("saturation", {"factor": [1, 1]}),
        ("hue", {"degrees": 0}),
    ],
)
def test_an_empty_range_changes_nothing(name: str, values: dict[str, object]) -> None:
    frame = picture()
    result = transformed(name, frame, **values)
    np.testing.assert_array_equal(result, frame)
    assert not np.shares_memory(result, frame)


@pytest.mark.parametrize(
    ("name", "values", "the_same"),
    [
        ("rotate", {"degrees": 40}, {"degrees": 40}),
        ("shear", {"degrees": 20}, {"shear": 20}),
        ("shift", {"translate": 0.2}, {"translate": 0.2}),
        ("zoom", {"scale": [0.5, 0.7]}, {"scale": (0.5, 0.7)}),
    ],
)
def test_a_single_change_is_the_affine_map_with_the_other_ranges_empty(
    name: str, values: dict[str, object], the_same: dict[str, Any]
) -> None:
    frame = smooth_picture()
    result = transformed(name, frame, fill="nearest", **values)
    np.testing.assert_array_equal(result, make_copy(affine_copy(fill="nearest", **the_same), frame, rng()))
    assert not np.array_equal(result, frame)


def test_a_crop_is_a_part_of_the_frame_of_its_aspect_and_of_the_asked_area() -> None:
    frame = np.arange(100 * 200 * 3, dtype=np.uint32).reshape(100, 200, 3)  # every pixel tells where it was
    corners = set()
    for position in range(20):
        part = np.asarray(transformed("crop", frame, position, area=[0.25, 0.25]))  # type: ignore[arg-type]
        assert part.shape == (50, 100, 3)
        top, left = divmod(int(part[0, 0, 0]) // 3, 200)
        np.testing.assert_array_equal(part, frame[top : top + 50, left : left + 100])
        corners.add((top, left))
    assert len(corners) > 10


def test_a_crop_of_a_tiny_picture_keeps_a_pixel() -> None:
    assert transformed("crop", picture(1, 3), area=[0.01, 0.01]).shape == (1, 1, 3)


def test_a_perspective_moves_each_corner_on_its_own_and_no_farther_than_asked() -> None:
    frame = np.zeros((101, 201, 3), np.uint8)
    frame[[20, 20, 80, 80], [40, 160, 160, 40]] = 255
    frame = np.asarray(cv2.dilate(frame, np.ones((3, 3))), np.uint8)
    views = [transformed("perspective", frame, position, distortion=0.1, fill="nearest") for position in range(20)]
    centres = np.array(
        [[np.argwhere(quarter.max(axis=2) > 100).mean(axis=0) for quarter in quarters(view)] for view in views]
    )
    assert np.ptp(centres, axis=0).min() > 3  # pixels
    assert np.ptp(centres - centres[:, :1], axis=0)[1:].min() > 3
    assert np.abs(centres - centres.mean(axis=0)).max() <= 0.2 * 200


def quarters(frame: Frame) -> list[Frame]:
    return [half for rows in (frame[:50], frame[50:]) for half in (rows[:, :100], rows[:, 100:])]


def test_brightness_is_a_factor_and_stops_at_white() -> None:
    frame = np.array([[[0, 100, 200]]], np.uint8)
    assert transformed("brightness", frame, factor=[1.5, 1.5]).tolist() == [[[0, 150, 255]]]
    assert transformed("brightness", frame, factor=[0, 0]).tolist() == [[[0, 0, 0]]]


def test_contrast_is_the_distance_to_the_mean() -> None:
    frame = np.array([[[80, 80, 80], [120, 120, 120]]], np.uint8)
    assert transformed("contrast", frame, factor=[2, 2])[..., 0].tolist() == [[60, 140]]
    assert transformed("contrast", frame, factor=[0, 0])[..., 0].tolist() == [[100, 100]]
    assert transformed("contrast", frame, factor=[10, 10])[..., 0].tolist() == [[0, 255]]


def test_without_saturation_a_picture_is_grey_and_with_more_it_is_more_colourful() -> None:
    frame = smooth_picture()
    np.testing.assert_array_equal(transformed("saturation", frame, factor=[0, 0]), transformed("grey", frame))
    grey = transformed("grey", frame)
    assert (grey == grey[..., :1]).all()
    assert np.ptp(transformed("saturation", frame, factor=[2, 2]), axis=2).mean() > 1.8 * np.ptp(frame, axis=2).mean()


def test_grey_is_the_luma_of_blue_green_and_red_in_this_order() -> None:
    frame = np.eye(3, dtype=np.uint8)[None] * 255
    assert transformed("grey", frame)[0, :, 0].tolist() == [29, 150, 76]


def test_a_hue_is_drawn_from_both_directions_of_the_circle() -> None:
    red = np.full((1, 1, 3), (0, 0, 200), np.uint8)  # BGR
    colours = np.array([transformed("hue", red, position, degrees=180)[0, 0] for position in range(100)])
    assert (colours.max(axis=1) == 200).all()  # the value stays
    assert {0, 1, 2} == set(colours.argmax(axis=1))
    few = np.array([transformed("hue", red, position, degrees=20)[0, 0] for position in range(100)])
    assert (few[:, 2] == 200).all()
    assert 60 <= few[:, 1].max() <= 67
    assert 60 <= few[:, 0].max() <= 67


def test_blur_keeps_the_mean_and_takes_the_detail() -> None:
    frame = picture()
    blurred = transformed("blur", frame, sigma_pixels=[3, 3])
    assert abs(float(blurred.mean()) - float(frame.mean())) < 1
    assert blurred.std() < frame.std() / 4


def test_noise_has_the_asked_deviation_and_no_bias() -> None:
    frame = np.full((200, 200, 3), 128, np.uint8)
    added = transformed("noise", frame, sigma_levels=[8, 8]).astype(int) - 128
    assert added.std() == pytest.approx(8, abs=0.1)
    assert abs(added.mean()) < 0.1
    assert abs(np.corrcoef(added[..., 0].ravel(), added[..., 1].ravel())[0, 1]) < 0.05


def test_noise_stops_at_black_and_white() -> None:
    black = transformed("noise", np.zeros((50, 50, 3), np.uint8), sigma_levels=[5, 5])
    assert (black == 0).mean() > 0.45
    assert black.max() < 40


def test_a_low_jpeg_quality_leaves_less() -> None:
    frame = smooth_picture()
    losses = [np.abs(transformed("jpeg", frame, quality=[q, q]).astype(int) - frame).mean() for q in (95, 30, 5)]
    assert losses == sorted(losses)
    assert losses[0] < 3 < losses[2]  # channels in order: exchanged ones would lose more


@pytest.mark.parametrize("values", RANDOM.values(), ids=RANDOM)
def test_a_random_copy_depends_on_its_position_alone(values: dict[str, Any]) -> None:
    frame = smooth_picture()
    first = transformed(frame=frame, **values)
    np.testing.assert_array_equal(transformed(frame=frame, **values), first)
    others = [transformed(frame=frame, position=position, **values) for position in (1, 2, 3)]
    assert any(not np.array_equal(copy_hwc, first) for copy_hwc in others)


def test_every_transform_is_tried_here() -> None:
    models = get_args(get_args(Copy)[0])
    names = {name for model in models for name in get_args(model.model_fields["name"].annotation)}
    assert names == set(RANDOM) | {
        "mirror_left_right", "mirror_top_bottom", "rotate_90", "rotate_180", "rotate_270", "grey"
    }  # fmt: skip


def test_an_affine_map_with_empty_ranges_changes_nothing() -> None:
    frame = picture()
    np.testing.assert_array_equal(make_copy(affine_copy(), frame, rng()), frame)


def test_an_affine_map_keeps_the_size_and_the_centre() -> None:
    frame = smooth_picture()
    moved = make_copy(affine_copy(degrees=30, scale=(0.9, 1.1), shear=10), frame, rng())
    assert moved.shape == frame.shape
    assert not np.array_equal(moved, frame)
    assert np.abs(moved[40, 40].astype(int) - frame[40, 40]).max() <= 2


def test_a_shift_stays_within_its_share_of_each_side() -> None:
    frame = np.zeros((101, 201, 3), np.uint8)
    frame[50, 100] = 255
    shifts = []
    for position in range(200):
        moved = make_copy(affine_copy(translate=0.1), frame, rng(position))
        y, x = np.unravel_index(moved[..., 0].argmax(), moved.shape[:2])
        shifts.append((abs(int(x) - 100), abs(int(y) - 50)))
    assert 17 <= max(x for x, _ in shifts) <= 21
    assert 8 <= max(y for _, y in shifts) <= 11


def test_the_scale_is_drawn_from_its_range_in_either_order() -> None:
    frame = smooth_picture()
    grown, same = (make_copy(affine_copy(scale=scale), frame, rng()) for scale in ((1.2, 1.5), (1.5, 1.2)))
    np.testing.assert_array_equal(grown, same)
    by_hand = np.abs(grown.astype(int) - cv2.resize(frame, None, fx=1.35, fy=1.35)[14:95, 14:95]).mean()
    assert by_hand < np.abs(grown.astype(int) - frame).mean() / 2


def test_what_comes_in_from_outside_is_a_reflection_or_the_nearest_pixel() -> None:
    frame = np.zeros((20, 20, 3), np.uint8)
    frame[:, 0] = 200  # a line at the left edge: `nearest` smears it, `reflect` shows what lies behind it
    shrunk = {
        fill: make_copy(affine_copy(scale=(0.5, 0.5), fill=fill), frame, rng()) for fill in ("reflect", "nearest")
    }
    assert (shrunk["nearest"][10, :4] > 150).all()
    assert (shrunk["reflect"][10, :3] < 50).all()


def test_the_randomness_of_a_copy_depends_on_seed_parent_and_position_only() -> None:
    def numbers(seed: int, parent: str, position: int) -> list[float]:
        return generator_for(seed, parent, position).random(3).tolist()

    first = numbers(0, "a.jpg", 1)
    assert numbers(0, "a.jpg", 1) == first
    assert first not in (numbers(1, "a.jpg", 1), numbers(0, "b.jpg", 1), numbers(0, "a.jpg", 2))
    assert numbers(1, "1", 11) != numbers(11, "1", 1)


def test_the_randomness_is_the_same_on_every_machine() -> None:
    assert generator_for(7, "data/frames/鳞片石墨/a.jpg", 3).random() == 0.9816081357261877
