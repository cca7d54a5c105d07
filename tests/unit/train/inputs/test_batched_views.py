"""The views of a whole batch are those of its pictures one by one, within one level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from pipeline.base.project import Project
from pipeline.train.inputs import batched_views as module
from pipeline.train.inputs import batches
from pipeline.train.inputs.batched_views import PaddedPictures, batched_views, cut_boxes, padded
from pipeline.train.inputs.random_views import random_views, view_generator
from pipeline.train.params import View
from tests.support.small_project import small_project
from tests.support.study_views import JITTER, STILL, STUDIES, as_views
from tests.support.training_images import CPU, CROP, FLIP, images_of, params_with

SIDE = 48
LARGE_CROP = {"name": "random_resized_crop", "area": [0.08, 1.0], "aspect": [0.75, 1.3333]}
AFFINE = {**STILL, "degrees": 40.0, "translate": 0.2, "scale": [0.8, 1.2], "shear_degrees": 11.0}
NO_CHANGE = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
ALONE: dict[str, dict[str, Any]] = {
    "crop": LARGE_CROP,
    "padded crop": {"name": "padded_crop", "padding_pixels": 4},
    "affine, nearest": {**AFFINE, "fill": "nearest"},
    "affine, black": {**AFFINE, "fill": "black"},
    "brightness": {**JITTER, **NO_CHANGE, "brightness": 0.6},
    "contrast": {**JITTER, **NO_CHANGE, "contrast": 0.6},
    "saturation": {**JITTER, **NO_CHANGE, "saturation": 0.6},
    "hue": {**JITTER, **NO_CHANGE, "hue": 0.3},
    "no colour": {**JITTER, **NO_CHANGE},
    "left and right": FLIP,
    "top and bottom": {"name": "mirror_top_bottom", "probability": 0.5},
    "grey": {"name": "grey", "probability": 0.5},
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return small_project(tmp_path_factory.mktemp("batches") / "project")


def _pictures(*sides: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Pictures (height, width, 3) whose pixels are like their neighbours, as in photos."""
    generator = np.random.default_rng(0)
    noise = [torch.from_numpy(generator.integers(0, 256, (3, *side), dtype=np.uint8)) for side in sides]
    return [transforms.gaussian_blur(picture_chw, [5, 5]).permute(1, 2, 0).numpy() for picture_chw in noise]


def _generators(n: int, epoch: int = 0) -> list[np.random.Generator]:
    return [view_generator(0, epoch, index) for index in range(n)]


def _together(pictures_hwc: Sequence[NDArray[np.uint8]], views: Sequence[View], epoch: int = 0) -> Tensor:
    return batched_views(padded(pictures_hwc, CPU), views, _generators(len(pictures_hwc), epoch), SIDE)


def _one_by_one(pictures_hwc: Sequence[NDArray[np.uint8]], views: Sequence[View]) -> Tensor:
    pictures_chw = [torch.from_numpy(picture_hwc).permute(2, 0, 1) for picture_hwc in pictures_hwc]
    return random_views(pictures_chw, views, _generators(len(pictures_hwc)), SIDE)


def _difference(first: Tensor, second: Tensor) -> Tensor:
    assert first.shape == second.shape
    return (first.int() - second.int()).abs()


@pytest.mark.parametrize("name", ALONE)
def test_every_transform_is_that_of_single_pictures_within_one_level(name: str) -> None:
    pictures_hwc, views = _pictures(*[(SIDE, SIDE)] * 12), as_views(ALONE[name])
    together = _together(pictures_hwc, views)
    assert together.dtype == torch.uint8
    assert together.is_contiguous(memory_format=torch.channels_last)
    difference = _difference(together, _one_by_one(pictures_hwc, views))
    assert int(difference.max()) <= 1
    assert float((difference > 0).float().mean()) < 0.001 or name == "crop"  # without AVX2 torch rounds a crop once
    other = _difference(_together(pictures_hwc, views, epoch=1), together)
    assert int(other.max()) > 10 or name == "no colour"  # the control: other random numbers give other views


@pytest.mark.parametrize("study", STUDIES)
def test_the_views_of_every_study_are_those_of_single_pictures(study: str) -> None:
    """A picture that differs by a level before a change of colour may differ by two behind it, in few pixels."""
    views = as_views(*STUDIES[study])
    pictures_hwc = _pictures(*[(SIDE, SIDE)] * 12)
    difference = _difference(_together(pictures_hwc, views), _one_by_one(pictures_hwc, views))
    assert float(difference.float().mean()) < 0.5
    assert float((difference > 1).float().mean()) < 0.001


@pytest.mark.parametrize("sides", [[(60, 90), (90, 60), (200, 50)], [(20, 31), (48, 48), (300, 260)]])
@pytest.mark.parametrize("study", ["lfw", "pothole"])
def test_pictures_of_several_sizes_give_their_own_views(study: str, sides: list[tuple[int, int]]) -> None:
    views, pictures_hwc = as_views(*STUDIES[study]), _pictures(*sides)
    difference = _difference(_together(pictures_hwc, views), _one_by_one(pictures_hwc, views))
    assert float((difference > 1).float().mean()) < 0.001


def test_what_lies_beside_a_picture_and_beside_its_box_is_not_used() -> None:
    pictures_hwc, views = _pictures((40, 70), (90, 50)), as_views(LARGE_CROP, FLIP)
    whole = padded(pictures_hwc, CPU)
    dirty_nchw = whole.pixels_nchw.clone()
    for dirty_chw, (height, width) in zip(dirty_nchw, whole.sides, strict=True):
        dirty_chw[:, height:] = 255
        dirty_chw[:, :, width:] = 255
    assert not torch.equal(dirty_nchw, whole.pixels_nchw)
    drawn = batched_views(PaddedPictures(dirty_nchw, whole.sides), views, _generators(2), SIDE)
    assert torch.equal(drawn, _together(pictures_hwc, views))


def test_a_view_does_not_depend_on_the_pictures_beside_it() -> None:
    pictures_hwc, views = _pictures(*[(70, 90)] * 5, (200, 100)), as_views(*STUDIES["lfw"])
    together = _together(pictures_hwc, views)
    for index, picture_hwc in enumerate(pictures_hwc):
        alone = batched_views(padded([picture_hwc], CPU), views, [view_generator(0, 0, index)], SIDE)
        assert torch.equal(alone[0], together[index])


@pytest.mark.parametrize("n_at_once", [1, 2, 5])
def test_a_batch_that_is_cut_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch, n_at_once: int) -> None:
    pictures_hwc, views = _pictures(*[(60, 60), (40, 60)] * 3), as_views(*STUDIES["pothole"])
    expected = _together(pictures_hwc, views)
    monkeypatch.setattr(module, "MOST_LEVELS", n_at_once * 3 * 60 * 60)
    difference = _difference(_together(pictures_hwc, views), expected)
    assert float((difference > 1).float().mean()) < 0.001


@pytest.mark.parametrize("box", [(0, 0, 300, 260), (3, 5, 48, 48), (11, 0, 20, 17), (250, 200, 48, 60), (7, 0, 1, 260)])
def test_a_box_is_resized_as_torch_resizes_it(box: tuple[int, int, int, int]) -> None:
    picture_chw = torch.from_numpy(_pictures((300, 260))[0]).permute(2, 0, 1)
    expected_chw = transforms.resized_crop(picture_chw, *box, [SIDE, SIDE], antialias=True)
    assert int(_difference(cut_boxes(picture_chw[None], [box], SIDE)[0], expected_chw).max()) <= 1
    moved = (box[0], max(0, box[1] - 3), box[2], box[3])
    if moved != box:
        assert int(_difference(cut_boxes(picture_chw[None], [moved], SIDE)[0], expected_chw).max()) > 1


def test_sums_have_no_rounding_error_that_the_order_of_a_gpu_could_change() -> None:
    """The largest sum of a crop that shrinks a side by 40 is still a whole number that float32 holds."""
    weights, units = module._weights(torch.tensor([0]), torch.tensor([2000]), 2000, 50)
    assert torch.equal(weights, weights.round())
    sums = weights.double().sum(dim=2)
    assert float(sums.max()) * 255 + float(units) / 2 < 2**24
    assert float((sums / float(units) - 1).abs().max()) < 0.001


@pytest.mark.parametrize("online", [(CROP, FLIP), (FLIP,)])
def test_a_source_draws_the_same_views_together_and_one_by_one(
    small: Project, monkeypatch: pytest.MonkeyPatch, online: tuple[dict[str, object], ...]
) -> None:
    source = batches.pictures(images_of(small, "train"), params_with(small, *online))
    indices = [5, 0, 3]
    expected, labels = source.batch(indices, 2, CPU)
    called: list[int] = []
    monkeypatch.setattr(batches, "draws_whole_batches", lambda device: called.append(1) or True)
    inputs, same_labels = source.batch(indices, 2, CPU)
    assert called
    assert torch.equal(labels, same_labels)
    assert float((inputs - expected).abs().max()) <= 1.01 / 255 / min(source.preprocess.std)
    assert float((source.batch(indices, 3, CPU)[0] - expected).abs().max()) > 0.1


def test_only_a_gpu_draws_whole_batches() -> None:
    assert not batches.draws_whole_batches(CPU)
    assert batches.draws_whole_batches(torch.device("cuda", 0))
