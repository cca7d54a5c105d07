"""Pictures from files: 8-bit RGB, upright, bounded before decoding. Pillow reads them, or OpenCV where it is absent."""

from __future__ import annotations

import importlib.util
import struct
import threading
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

# No format whose reader starts a program (EPS), holds several pictures of unstated size (ICO) or needs a font (WMF).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".ppm", ".pgm", ".pbm",
})  # fmt: skip

# What Pillow's readers raise on damaged files, found by mutating real ones.
_DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, AttributeError,
    AssertionError, RuntimeError, MemoryError, struct.error, zlib.error,
)  # fmt: skip


class _Quiet:
    """Warnings are off while any thread decodes: a corrupt EXIF block is nothing to speak of when the pixels are there.

    `warnings.catch_warnings` alone does not do in threads: the one that entered first may be the first to leave.
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
_ORIENTATION = 0x0112  # EXIF tag; 1 is upright


def read_image(path: Path, *, max_pixels: int, formats: Sequence[str] = FORMATS) -> NDArray[np.uint8]:
    """Read the first picture of a file as (height, width, 3) uint8 RGB, turned upright by its EXIF orientation.

    Transparency is laid over white, 16-bit grey is scaled by its range, CMYK and palettes are converted; colour
    profiles are not applied.

    Args:
        path: JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or PPM (only JPEG and PNG where Pillow is not installed).
        max_pixels: width times height above which the picture is refused; its header is asked before decoding.
        formats: Pillow's names of those that are tried.

    Raises:
        ImageError: the file is missing, is no such picture, is cut short, or has too many pixels.
    """
    if importlib.util.find_spec("PIL") is None:
        from runtime.images_opencv import read_with_opencv

        return read_with_opencv(path, max_pixels=max_pixels)
    with _QUIET:
        return _read_with_pillow(path, max_pixels, formats)


def check_pixels(path: Path, width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture by the size that its header states.

    Raises:
        ImageError: it has no pixels or more than `max_pixels`.
    """
    if not 0 < width * height <= max_pixels:
        raise ImageError(f"{path}: {width} x {height} pixels; expected between 1 and {max_pixels} in all")


def turn_upright(pixels_hwc: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation (1 to 8; anything else counts as 1)."""
    if orientation in (5, 6, 7, 8):
        pixels_hwc = pixels_hwc.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels_hwc = pixels_hwc[::-1]
    if orientation in (2, 3, 6, 7):
        pixels_hwc = pixels_hwc[:, ::-1]
    return np.ascontiguousarray(pixels_hwc)


def _read_with_pillow(path: Path, max_pixels: int, formats: Sequence[str]) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    Image.init()
    known = [name for name in formats if name in Image.OPEN]  # an older Pillow lacks AVIF
    try:
        with Image.open(path, formats=known) as image:
            check_pixels(path, image.width, image.height, max_pixels)
            image.load()
            # After loading: Pillow itself turns TIFF upright while it loads, and then says so.
            orientation = _orientation(image)
            return turn_upright(np.array(_to_rgb(image)), orientation)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise ImageError(f"{path}: {error.strerror}; expected a picture that can be read") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path}: too many pixels for Pillow to open; expected at most {max_pixels}") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: not a picture that can be read; expected one of {', '.join(known)}") from error
    except _DECODER_ERRORS as error:
        raise ImageError(f"{path}: cannot be decoded ({error or type(error).__name__}); re-copy the file") from error


def _orientation(image: Image.Image) -> int:
    try:
        value: Any = image.getexif().get(_ORIENTATION, 1)
    except _DECODER_ERRORS:  # damaged EXIF is like none
        return 1
    return value if isinstance(value, int) else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, expected 8 or 16 bits")
    if image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    over_white = Image.new("RGB", rgba.size, "white")
    over_white.paste(rgba, mask=rgba)
    return over_white


def _eight_bits(grey_hw: NDArray[Any]) -> NDArray[np.uint8]:
    if grey_hw.size and not 0 <= int(grey_hw.min()) <= int(grey_hw.max()) <= 65535:
        raise ValueError("its pixels have more than 16 bits, expected 8 or 16")
    return ((grey_hw.astype(np.uint32) + 128) // 257).astype(np.uint8)
