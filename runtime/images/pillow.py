"""Reading of pictures with Pillow."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from runtime.errors import ImageError, TooManyPixelsError
from runtime.images.heic import REMEDY, is_heic
from runtime.images.item_properties import read_item_properties
from runtime.images.pixels import check_pixels, deep_colour_message, to_eight_bits, turn_upright
from runtime.images.sample_bits import is_deep_colour, stated_bits
from runtime.images.tone_mapping import BT2020, CURVES, to_sdr
from runtime.system.regular_files import open_regular

if TYPE_CHECKING:
    from PIL import Image


# What Pillow's readers raise on damaged files, found by mutating real ones.
DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, AttributeError,
    AssertionError, RuntimeError, MemoryError, struct.error, zlib.error,
)  # fmt: skip


class _UnfitPixelsError(Exception):
    """The file is sound, but its pixels are numbers of a kind that is not read."""


class _Quiet:
    """Switch warnings off while any thread decodes: a corrupt EXIF block does not matter when the pixels are sound.

    `warnings.catch_warnings` alone fails in threads: the thread that entered first may be the first to leave, and then
    restores the filters while others still decode.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._caught.__exit__(None, None, None)


_QUIET = _Quiet()
_WITH_PROPERTIES = ("AVIF", "HEIF")
_ORIENTATION = 0x0112  # EXIF tag; 1 is upright


def read_with_pillow(
    path: Path,
    *,
    max_pixels: int,
    formats: Sequence[str],
    content: bytes | None = None,
    sample_bits: int | None = None,
) -> NDArray[np.uint8]:
    """Read the first picture of a file as (height, width, 3) uint8 RGB; see `runtime.images.read_image`.

    Args:
        path: the picture's file.
        max_pixels: the largest width times height; the size is read from the header before decoding.
        formats: Pillow's names of the formats that are accepted.
        content: the file's bytes, if they are in memory.
        sample_bits: how many bits of 16 count, where the file does not say so itself; None for all.

    Raises:
        ImageError: as `read_image`.
    """
    with _QUIET:
        if content is not None:
            return _read(path, max_pixels, formats, io.BytesIO(content), sample_bits)
        try:
            file = open_regular(path)
        except OSError as error:
            raise ImageError(f"{path}: {error.strerror}; expected a picture that can be read") from error
        with file:
            return _read(path, max_pixels, formats, file, sample_bits)


def _read(
    path: Path, max_pixels: int, formats: Sequence[str], file: BinaryIO, sample_bits: int | None
) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    Image.init()
    known = [name for name in formats if name in Image.OPEN]  # an older Pillow has no AVIF
    try:
        with Image.open(file, formats=known) as image:
            check_pixels(path, image.width, image.height, max_pixels)
            bits = stated_bits(image) or sample_bits or 16
            if bits < 16 and is_deep_colour(image):
                raise ImageError(deep_colour_message(path, bits))
            image.load()
            # Read after loading: Pillow turns a TIFF upright while it loads, and then removes the orientation.
            orientation = _orientation(image)
            return turn_upright(_to_standard_range(np.array(_to_rgb(image, bits)), image.format, file), orientation)
    except Image.DecompressionBombError as error:
        most = f"expected at most {max_pixels}"
        raise TooManyPixelsError(f"{path}: too many pixels for Pillow to open; {most}") from error
    except _UnfitPixelsError as error:
        raise ImageError(f"{path}: {error}") from error
    except UnidentifiedImageError as error:
        if is_heic(path):
            raise ImageError(f"{path}: {REMEDY}") from error
        raise ImageError(f"{path}: not a picture that can be read; expected one of {', '.join(known)}") from error
    except DECODER_ERRORS as error:
        raise ImageError(f"{path}: cannot be decoded ({error or type(error).__name__}); re-copy the file") from error


def _to_standard_range(pixels_hwc: NDArray[np.uint8], file_format: str | None, file: BinaryIO) -> NDArray[np.uint8]:
    """Map the tones of a picture in HLG or PQ as those of clips are mapped. Other pictures stay as they are."""
    if file_format not in _WITH_PROPERTIES:
        return pixels_hwc
    properties = read_item_properties(file)
    curve = CURVES.get(properties.transfer)
    if curve is None:
        return pixels_hwc
    signal_hwc = pixels_hwc.astype(np.uint16) * 257
    return to_sdr(signal_hwc, curve, wide_gamut=properties.primaries == BT2020)


def _orientation(image: Image.Image) -> int:
    try:
        value: Any = image.getexif().get(_ORIENTATION, 1)
    except DECODER_ERRORS:  # damaged EXIF counts as none
        return 1
    return value if isinstance(value, int) else 1


def _to_rgb(image: Image.Image, bits: int) -> Image.Image:
    from PIL import Image

    if image.mode == "F":
        raise _UnfitPixelsError("its pixels are floating-point numbers; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image), bits)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    over_white = Image.new("RGB", rgba.size, "white")
    over_white.paste(rgba, mask=rgba)
    return over_white


def _eight_bits(grey_hw: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    if grey_hw.size and not 0 <= int(grey_hw.min()) <= int(grey_hw.max()) <= 65535:
        raise _UnfitPixelsError("its pixels have more than 16 bits; save it with 8 or 16 bits")
    return to_eight_bits(grey_hw, bits)
