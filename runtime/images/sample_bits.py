"""How many of 16 bits count in a picture: cameras store 10, 12 or 14 bits in the low bits of 16."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

_UNSCALED = frozenset({"TIFF", "PNG"})  # other formats state the range of their samples, and Pillow applies it
_BITS_PER_SAMPLE = 258  # tags of TIFF
_HIGHEST_VALUES = (281, 341, 50717)  # MaxSampleValue, SMaxSampleValue, and WhiteLevel of DNG
_FEWEST, _MOST = 9, 16


def is_deep_colour(image: Image.Image) -> bool:
    """Whether a picture, just opened, has 16-bit colour, of which Pillow reads the upper 8 bits."""
    tiles: Any = getattr(image, "tile", [])  # of a file: how each part of it is stored
    return not image.mode.startswith("I") and any(";16" in str(tile[3]) for tile in tiles)


def stated_bits(image: Image.Image) -> int | None:
    """Return how many bits count by what the file says; None where a file with 16 bits does not say it.

    Args:
        image: a picture with 16 bits, just opened.
    """
    if image.format not in _UNSCALED:
        return _MOST
    tags: Any = getattr(image, "tag_v2", {})
    bits = [int(value) for value in _numbers(tags.get(_BITS_PER_SAMPLE)) if value < _MOST]
    for tag in _HIGHEST_VALUES:
        bits += [int(value).bit_length() for value in _numbers(tags.get(tag))]
    return next((number for number in bits if _FEWEST <= number <= _MOST), None)


def _numbers(value: Any) -> list[float]:
    values = value if isinstance(value, (tuple, list)) else [value]
    return [number for number in values if isinstance(number, (int, float)) and number >= 0]
