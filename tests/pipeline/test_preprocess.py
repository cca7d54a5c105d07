from __future__ import annotations

import pytest
import torch

from pipeline.preprocess import Preprocess

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
