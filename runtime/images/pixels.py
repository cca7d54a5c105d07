"""Steps that all readers of pictures share: bound the number of pixels, and turn a picture upright."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import ImageError, TooManyPixelsError

# No format needs more for a pixel than four channels of 16 bits. The rest is room for metadata.
_MOST_BYTES_PER_PIXEL, _METADATA_BYTES = 8, 16 * 2**20


def most_bytes(max_pixels: int) -> int:
    """Return how many bytes a file with a picture of so many pixels can need."""
    return _MOST_BYTES_PER_PIXEL * max_pixels + _METADATA_BYTES


def check_pixels(path: Path, width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture by the size that its header states.

    Args:
        path: the picture's file, for the message.
        width: pixels.
        height: pixels.
        max_pixels: the largest width times height.

    Raises:
        TooManyPixelsError: the picture has more than `max_pixels`.
        ImageError: the picture has none.
    """
    if not 0 < width * height <= max_pixels:
        error = TooManyPixelsError if width * height > max_pixels else ImageError
        raise error(f"{path}: {width} x {height} pixels; expected between 1 and {max_pixels} in all")


def deep_colour_message(path: Path, bits: int) -> str:
    """The error for 16-bit colour of which fewer bits count: Pillow reads the upper 8 bits of 16-bit colour only."""
    return f"{path}: {bits} bits in 16-bit colour, of which Pillow reads the upper 8; convert it to 8 bits"


def to_eight_bits(samples: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Scale samples of so many bits to 0 to 255. A sample beyond them becomes white.

    Args:
        samples: whole numbers from 0, of any shape.
        bits: 9 to 16.
    """
    highest = (1 << bits) - 1
    scaled = (np.minimum(samples, highest).astype(np.uint32) * 255 + highest // 2) // highest
    return np.asarray(scaled, dtype=np.uint8)


def turn_upright(pixels_hwc: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation (1 to 8; any other value counts as 1) of pixels (height, width, channels)."""
    if orientation in (5, 6, 7, 8):
        pixels_hwc = pixels_hwc.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels_hwc = pixels_hwc[::-1]
    if orientation in (2, 3, 6, 7):
        pixels_hwc = pixels_hwc[:, ::-1]
    return np.ascontiguousarray(pixels_hwc)
