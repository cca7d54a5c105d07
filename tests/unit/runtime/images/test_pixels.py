"""The steps that all readers of pictures share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.errors import ImageError
from runtime.images.pixels import check_pixels, turn_upright

PICTURE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


@pytest.mark.parametrize("orientation", [-1, 0, 1, 9, 77])
def test_an_orientation_that_does_not_exist_changes_nothing(orientation: int) -> None:
    assert (turn_upright(PICTURE, orientation) == PICTURE).all()


def test_each_orientation_is_another_turn() -> None:
    turned = [turn_upright(PICTURE, orientation) for orientation in range(1, 9)]
    assert [pixels.shape[:2] for pixels in turned] == [(2, 4)] * 4 + [(4, 2)] * 4
    assert len({pixels.tobytes() for pixels in turned}) == 8
    assert all(pixels.flags.c_contiguous for pixels in turned)


def test_the_bound_counts_pixels_and_not_sides() -> None:
    assert check_pixels(Path("a.png"), 5, 20, 100) is None  # does not raise
    for width, height in ((5, 21), (0, 20)):
        with pytest.raises(ImageError, match=f"a.png: {width} x {height} pixels; expected between 1 and 100 in all"):
            check_pixels(Path("a.png"), width, height, 100)
