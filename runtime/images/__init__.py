"""Reading of picture files: 8-bit RGB, upright, bounded before decoding. Pillow reads, or OpenCV where it is absent."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.errors import DeviceError

# Left out: EPS, whose reader starts a program; ICO, whose pictures do not state their size; WMF, which needs a font.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".ppm", ".pgm", ".pbm",
})  # fmt: skip


def reader() -> str:
    """Return the package that reads pictures here: `Pillow`, or `OpenCV` where Pillow is not installed.

    Raises:
        DeviceError: neither is installed.
    """
    for name, module in (("Pillow", "PIL"), ("OpenCV", "cv2")):
        if importlib.util.find_spec(module) is not None:
            return name
    raise DeviceError("neither Pillow nor OpenCV is installed, so no picture can be read; pip install Pillow")


def read_image(
    path: Path,
    *,
    max_pixels: int,
    formats: Sequence[str] = FORMATS,
    content: bytes | None = None,
    sample_bits: int | None = None,
) -> NDArray[np.uint8]:
    """Read the first picture of a file as (height, width, 3) uint8 RGB, turned upright by its EXIF orientation.

    Transparency is laid over white, 16-bit grey is scaled by its bits, HLG and PQ become SDR, CMYK and palettes are
    converted; colour profiles are not applied.

    Args:
        path: JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or PPM (only JPEG and PNG where Pillow is not installed).
        max_pixels: the largest width times height; the size is read from the header before decoding.
        formats: Pillow's names of the formats that are accepted.
        content: the file's bytes, if they are in memory; then `path` is only its name in messages.
        sample_bits: how many bits of 16 count, where the file does not say so itself; None for all.

    Raises:
        ImageError: the file is missing, is not such a picture, is cut short, or has too many pixels.
        DeviceError: neither Pillow nor OpenCV can be imported.
    """
    if reader() == "OpenCV":
        try:
            from runtime.images.opencv import read_with_opencv
        except ImportError as error:  # OpenCV lacks a system library
            raise DeviceError(
                f"OpenCV cannot be imported ({error}), and Pillow is missing; pip install Pillow"
            ) from error

        return read_with_opencv(path, max_pixels=max_pixels, content=content, sample_bits=sample_bits)
    from runtime.images.pillow import read_with_pillow

    return read_with_pillow(path, max_pixels=max_pixels, formats=formats, content=content, sample_bits=sample_bits)
