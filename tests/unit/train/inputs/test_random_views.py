from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from pipeline.train.inputs.random_views import (
    affine,
    colour_jitter,
    draw_box,
    padded_crop,
    random_views,
    view_generator,
)
from pipeline.train.params import AffineView, ColourJitterView, RandomResizedCropView, View
from tests.support.study_views import CROP, JITTER, STILL, STUDIES, as_views

SIDE = 28


def _pictures(n: int = 4, side: int = SIDE) -> Tensor:
    generator = np.random.default_rng(0)
    return torch.from_numpy(generator.integers(0, 256, (n, 3, side, side), dtype=np.uint8))


def _smooth(side: int = SIDE) -> Tensor:
    """A picture in which a pixel's neighbour is like it, so that half a pixel makes a small difference."""
    return transforms.gaussian_blur(_pictures(1, side)[0], [9, 9])


def _drawn(pictures_nchw: Tensor, views: Sequence[View], seed: int = 0, size: int = SIDE) -> Tensor:
    generators = [view_generator(seed, 0, index) for index in range(len(pictures_nchw))]
    return random_views(pictures_nchw, views, generators, size)


@pytest.mark.parametrize("study", STUDIES)
def test_the_views_of_every_study_can_be_written_and_give_pixels_of_the_asked_size(study: str) -> None:
    drawn_nchw = _drawn(
        _pictures(side=32), as_views(*STUDIES[study]), size=32 if study in ("cub", "catsdogs") else SIDE
    )
    assert drawn_nchw.dtype == torch.uint8
    assert drawn_nchw.shape[:2] == (4, 3)
    assert drawn_nchw.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("study", STUDIES)
def test_a_batch_gives_the_views_of_its_pictures_one_by_one(study: str) -> None:
    pictures_nchw, views = _pictures(), as_views(*STUDIES[study])
    together = _drawn(pictures_nchw, views)
    for index, picture_chw in enumerate(pictures_nchw):
        alone = random_views(picture_chw[None], views, [view_generator(0, 0, index)], SIDE)
        assert torch.equal(alone[0], together[index])


@pytest.mark.parametrize("study", STUDIES)
def test_only_seed_view_and_image_decide_about_a_view(study: str) -> None:
    picture_nchw, views = _pictures(1), as_views(*STUDIES[study])

    def drawn(seed: int, view: int, index: int) -> list[Tensor]:  # several, since a coin often falls alike
        generators = [view_generator(seed + 100 * k, view, index) for k in range(8)]
        return [random_views(picture_nchw, views, [generator], SIDE) for generator in generators]

    torch.manual_seed(1)
    first, state = drawn(0, 0, 0), torch.get_rng_state()
    torch.manual_seed(2)
    assert all(torch.equal(*pair) for pair in zip(first, drawn(0, 0, 0), strict=True))
    for changed in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        assert not all(torch.equal(*pair) for pair in zip(first, drawn(*changed), strict=True))
    torch.manual_seed(1)
    drawn(0, 0, 0)
    assert torch.equal(state, torch.get_rng_state())  # dropout's randomness is left alone


@pytest.mark.parametrize(
    "entry",
    [
        {**STILL, "fill": "nearest"},
        {**STILL, "fill": "black"},
        {**JITTER, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0},
        {**CROP, "area": [1.0, 1.0], "aspect": [1.0, 1.0]},
    ],
)
def test_nothing_changes_at_no_strength(entry: dict[str, Any]) -> None:
    pictures_nchw = _pictures()
    assert torch.equal(_drawn(pictures_nchw, as_views(entry)), pictures_nchw)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mirror_left_right", lambda picture: picture.flip(-1)),
        ("mirror_top_bottom", lambda picture: picture.flip(-2)),
        ("grey", lambda picture: transforms.rgb_to_grayscale(picture, num_output_channels=3)),
    ],
)
def test_mirrors_and_grey_happen_with_their_probability(name: str, expected: Callable[[Tensor], Tensor]) -> None:
    pictures_nchw = _pictures(400, side=4)
    drawn_nchw = _drawn(pictures_nchw, as_views({"name": name, "probability": 0.25}), size=4)
    changed = [not torch.equal(*pair) for pair in zip(drawn_nchw, pictures_nchw, strict=True)]
    assert 60 < sum(changed) < 140  # 100 ± 4.6 standard deviations
    assert torch.equal(drawn_nchw[changed], expected(pictures_nchw)[changed])


def test_a_crop_of_the_head_room_alone_takes_pixels_as_they_are() -> None:
    """Study 000's other reading, a random 224 x 224 of a 256 x 256 picture, with an area of 224² / 256²."""
    picture_chw = _pictures(1, side=32)[0]
    view = as_views({**CROP, "area": [(28 / 32) ** 2] * 2, "aspect": [1.0, 1.0]})
    windows = picture_chw.unfold(1, 28, 1).unfold(2, 28, 1)  # (3, 5, 5, 28, 28)
    offsets = set()
    for index in range(60):
        drawn_chw = random_views(picture_chw[None], view, [view_generator(0, 0, index)], 28)[0]
        matches = (windows == drawn_chw[:, None, None]).all(dim=-1).all(dim=-1).all(dim=0).nonzero().tolist()
        assert len(matches) == 1
        offsets.add(tuple(matches[0]))
    assert len(offsets) > 15  # of 25


@pytest.mark.parametrize(("height", "width"), [(256, 256), (20, 200), (200, 20)])
def test_boxes_are_drawn_as_torchvision_draws_them(height: int, width: int) -> None:
    view = RandomResizedCropView(name="random_resized_crop", area=(0.08, 1.0), aspect=(3 / 4, 4 / 3))
    generator = np.random.default_rng(0)
    boxes = np.array([draw_box(height, width, view, generator) for _ in range(2000)])
    peer = _torchvision_boxes(height, width)
    assert (boxes >= 0).all()
    assert (boxes[:, 0] + boxes[:, 2] <= height).all()
    assert (boxes[:, 1] + boxes[:, 3] <= width).all()
    error = boxes.std(axis=0) * math.sqrt(2 / 2000)
    assert (np.abs(boxes.mean(axis=0) - peer.mean(axis=0)) <= 5 * error + 1e-9).all()
    assert np.allclose(boxes.std(axis=0), peer.std(axis=0), rtol=0.15, atol=1e-9)


def _torchvision_boxes(height: int, width: int) -> np.ndarray[Any, Any]:
    from torchvision.transforms.v2 import RandomResizedCrop

    torch.manual_seed(0)
    crop, image = RandomResizedCrop(8), torch.zeros(3, height, width, dtype=torch.uint8)
    names = ("top", "left", "height", "width")
    return np.array([[crop.make_params([image])[name] for name in names] for _ in range(2000)])


def test_where_no_box_fits_the_central_box_of_the_nearest_aspect_is_taken() -> None:
    view = RandomResizedCropView(name="random_resized_crop", area=(1.0, 1.0), aspect=(3 / 4, 4 / 3))
    assert draw_box(30, 300, view, np.random.default_rng(0)) == (0, 130, 30, 40)
    assert draw_box(300, 30, view, np.random.default_rng(0)) == (130, 0, 40, 30)


def test_a_padded_crop_shows_every_shift_and_black_outside_the_picture() -> None:
    picture_chw = torch.full((3, 8, 8), 200, dtype=torch.uint8)
    picture_chw[:, 3, 3] = 7
    shifts = set()
    for index in range(200):
        cut_chw = padded_crop(picture_chw, 2, view_generator(0, 0, index))
        row, column = (cut_chw[0] == 7).nonzero()[0].tolist()
        shifts.add((row, column))
        assert cut_chw.shape == picture_chw.shape
        assert int((cut_chw[0] == 0).sum()) == 64 - (8 - abs(row - 3)) * (8 - abs(column - 3))
    assert shifts == {(row, column) for row in range(1, 6) for column in range(1, 6)}


class Planned:
    """Replaces a generator: returns the values that a test planned, in order."""

    def __init__(self, *values: Any) -> None:
        self.values = list(values)

    def uniform(self, *_: float, size: int | None = None) -> Any:
        value = self.values.pop(0)
        return value if size is None else np.array(value)

    def permutation(self, _: int) -> Any:
        return self.values.pop(0)


@pytest.mark.parametrize("fill", ["nearest", "black"])
@pytest.mark.parametrize(
    ("angle", "shift", "scale", "shear"),
    [
        (30, (0, 0), 1, 0),
        (0, (0.25, -0.125), 1, 0),
        (0, (0, 0), 0.7, 0),
        (0, (0, 0), 1, 20),
        (-40, (0.1, 0.2), 1.2, -11),
    ],
)
def test_an_affine_view_is_torchvisions_of_the_picture_with_its_edges_continued(
    fill: str, angle: float, shift: tuple[float, float], scale: float, shear: float
) -> None:
    picture_chw = _smooth()
    view = AffineView(name="affine", degrees=180.0, translate=0.5, scale=(0.5, 2.0), shear_degrees=45.0, fill=fill)
    ours = affine(picture_chw, view, Planned(angle, shift, scale, shear))  # type: ignore[arg-type]
    room = 2 * SIDE
    padded = transforms.pad(picture_chw, [room], padding_mode="edge") if fill == "nearest" else picture_chw
    expected = transforms.affine(
        padded,
        angle=angle,
        translate=[round(part * SIDE) for part in shift],
        scale=scale,
        shear=[shear, 0.0],
        interpolation=transforms.InterpolationMode.BILINEAR,
    )
    if fill == "nearest":
        expected = transforms.crop(expected, room, room, SIDE, SIDE)
    assert int((ours.int() - expected.int()).abs().max()) <= 1
    assert float((ours != expected).float().mean()) < 0.02
    assert not torch.equal(ours, picture_chw)


def test_an_affine_view_of_a_picture_that_is_no_square_is_torchvisions() -> None:
    picture_chw = transforms.gaussian_blur(_pictures(1, 60)[0], [9, 9])[:, :36]
    view = AffineView(name="affine", degrees=180.0, translate=0.5, scale=(0.5, 2.0), shear_degrees=45.0, fill="black")
    ours = affine(picture_chw, view, Planned(30, (0.1, -0.25), 1.2, 15))  # type: ignore[arg-type]
    expected = transforms.affine(
        picture_chw,
        angle=30,
        translate=[6, -9],  # a share of the width, and of the height
        scale=1.2,
        shear=[15.0, 0.0],
        interpolation=transforms.InterpolationMode.BILINEAR,
    )
    assert int((ours.int() - expected.int()).abs().max()) <= 1
    assert float((ours != expected).float().mean()) < 0.02


def test_pictures_of_several_sizes_give_views_of_one_size() -> None:
    views = as_views(*STUDIES["pothole"])
    pictures_chw = [_pictures(1)[0], _pictures(1, side=60)[0][:, :36]]
    drawn_nchw = random_views(pictures_chw, views, [view_generator(0, 0, index) for index in range(2)], SIDE)
    assert drawn_nchw.shape == (2, 3, SIDE, SIDE)
    alone = random_views(pictures_chw[1:], views, [view_generator(0, 0, 1)], SIDE)
    assert torch.equal(drawn_nchw[1:], alone)


def test_edge_pixels_come_in_where_nearest_is_asked_for_and_black_where_black_is() -> None:
    picture_chw = torch.full((3, SIDE, SIDE), 90, dtype=torch.uint8)
    small = {"scale": (0.5, 0.5), "degrees": 0.0, "translate": 0.0, "shear_degrees": 0.0}
    generator = np.random.default_rng(0)
    assert (affine(picture_chw, AffineView(name="affine", fill="nearest", **small), generator) == 90).all()
    shrunk = affine(picture_chw, AffineView(name="affine", fill="black", **small), generator)
    assert (shrunk[:, SIDE // 2, SIDE // 2] == 90).all()
    assert (shrunk[:, 0] == 0).all()


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_colour_changes_are_torchvisions_in_the_drawn_order(order: tuple[int, ...]) -> None:
    picture_chw = _pictures(1)[0]
    amounts = (1.3, 0.7, 1.2, 0.05)
    view = ColourJitterView.model_validate(JITTER)
    ours = colour_jitter(picture_chw, view, Planned(*amounts, order))  # type: ignore[arg-type]
    changes = (
        transforms.adjust_brightness,
        transforms.adjust_contrast,
        transforms.adjust_saturation,
        transforms.adjust_hue,
    )
    expected = picture_chw
    for i in order:
        expected = changes[i](expected, amounts[i])
    assert torch.equal(ours, expected)
    assert not torch.equal(ours, picture_chw)


def test_orders_and_factors_vary_within_their_ranges() -> None:
    level = torch.full((3, 4, 4), 100, dtype=torch.uint8)
    view = ColourJitterView(name="colour_jitter", brightness=0.4, contrast=0.0, saturation=0.0, hue=0.0)
    levels = [int(colour_jitter(level, view, view_generator(0, 0, k))[0, 0, 0]) for k in range(300)]
    assert 59 <= min(levels) < 64
    assert 136 < max(levels) <= 140
