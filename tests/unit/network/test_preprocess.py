from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.network.preprocess import Preprocess

HALF = (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("crop", "fraction", "size_hw", "box"),
    [
        ("squash", 1.0, (30, 50), (0, 0, 30, 50)),
        ("center", 1.0, (30, 50), (0, 10, 30, 30)),
        ("center", 0.5, (30, 50), (7, 17, 15, 15)),
        ("center", 0.1, (1, 1), (0, 0, 1, 1)),
    ],
)
def test_the_box_is_the_whole_picture_or_its_central_square(
    crop: str, fraction: float, size_hw: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    assert Preprocess(8, crop, fraction, HALF, HALF).box(*size_hw) == box  # type: ignore[arg-type]


def test_pixels_are_normalised_by_mean_and_std() -> None:
    preprocess = Preprocess(8, "squash", 1.0, (0.5, 0.25, 0.0), (0.5, 0.25, 1.0))
    input_nchw = preprocess(torch.full((1, 8, 8, 3), 255, dtype=torch.uint8))
    assert input_nchw.shape == (1, 3, 8, 8)
    assert input_nchw[0, :, 0, 0].tolist() == pytest.approx([1.0, 3.0, 1.0])


@pytest.mark.parametrize("mean_and_std", [((0.5,) * 3, (0.5,) * 3), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
def test_cached_levels_are_normalised_to_the_very_same_numbers(mean_and_std: tuple[Any, Any]) -> None:
    preprocess = Preprocess(23, "squash", 1.0, *mean_and_std)
    image_nhwc = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 60, 47, 3), dtype=np.uint8))
    levels_nhwc = preprocess.resized(image_nhwc, 23).permute(0, 2, 3, 1).contiguous()
    before = levels_nhwc.clone()
    assert torch.equal(preprocess.normalised(levels_nhwc), preprocess(image_nhwc))
    assert torch.equal(levels_nhwc, before)  # the input is left as it was
    rounded = preprocess.normalised(levels_nhwc.round().to(torch.uint8))
    assert rounded.is_contiguous(memory_format=torch.channels_last)
    assert 0 < (rounded - preprocess(image_nhwc)).abs().max() <= 0.5001 / 255 / min(preprocess.std)
