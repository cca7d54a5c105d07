"""Reading of JPEG and PNG with OpenCV, for devices that have OpenCV instead of Pillow.

OpenCV cannot report a size without decoding, and pads truncated files with grey. So both are checked here first.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import ImageError
from runtime.images.heic import REMEDY, is_heic
from runtime.images.pixels import check_pixels, deep_colour_message, most_bytes, to_eight_bits
from runtime.system.regular_files import read_regular

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_JPEG_SCAN = 0xDA
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def read_with_opencv(
    path: Path, *, max_pixels: int, content: bytes | None = None, sample_bits: int | None = None
) -> NDArray[np.uint8]:
    """Read a JPEG or PNG as (height, width, 3) uint8 RGB; see `images.read_image`.

    A JPEG is turned upright by its EXIF orientation; an orientation inside a PNG is ignored.

    Args:
        path: the picture's file.
        max_pixels: the largest width times height.
        content: the file's bytes, if they are in memory.
        sample_bits: how many bits of 16 count; None for all.

    Raises:
        ImageError: as `images.read_image`.
    """
    pixels_bgr = read_bgr(path, max_pixels=max_pixels, content=content, sample_bits=sample_bits)
    return np.asarray(cv2.cvtColor(pixels_bgr, cv2.COLOR_BGR2RGB), np.uint8)


def read_bgr(
    path: Path, *, max_pixels: int, content: bytes | None = None, sample_bits: int | None = None
) -> NDArray[np.uint8]:
    """Read like `read_with_opencv`, but as BGR, for callers that give the picture back to OpenCV.

    Args:
        path: the picture's file.
        max_pixels: the largest width times height.
        content: the file's bytes, if they are in memory.
        sample_bits: how many bits of 16 count; None for all.

    Raises:
        ImageError: as `images.read_image`.
    """
    try:
        data = read_regular(path, most_bytes(max_pixels)) if content is None else content
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        width, height = _png_size(data) if data.startswith(_PNG) else _jpeg_size(data)
    except struct.error as error:
        raise ImageError(f"{path}: cut short; re-copy the file") from error
    except ValueError as error:
        if is_heic(path):
            raise ImageError(f"{path}: {REMEDY}") from error
        raise ImageError(f"{path}: {error}; expected a whole JPEG or PNG (other formats need Pillow)") from error
    check_pixels(path, width, height, max_pixels)
    return _decode(path, data, sample_bits or 16)


def _png_size(data: bytes) -> tuple[int, int]:
    """Return (width, height), after following the chunks to the last one."""
    offset = len(_PNG)
    while data[offset + 4 : offset + 8] != b"IEND":
        (length,) = struct.unpack_from(">I", data, offset)
        offset += length + 12
    width, height = struct.unpack_from(">II", data, 16)
    return int(width), int(height)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Return (width, height), after following the segments to the scan and finding an end marker after it."""
    if not data.startswith(_JPEG):
        raise ValueError("not a picture that can be read")
    offset, size, end = 2, (0, 0), data.rfind(_JPEG_END)
    while data[offset : offset + 1] == b"\xff":
        marker, length = struct.unpack_from(">xBH", data, offset)
        if marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", data, offset + 5)
            size = width, height
        offset += length + 2
        if marker == _JPEG_SCAN and end >= offset:
            return size
    raise ValueError("cut short")


def _decode(path: Path, data: bytes, bits: int) -> NDArray[np.uint8]:
    is_png = data.startswith(_PNG)
    try:
        # IMREAD_COLOR alone turns a photo upright; IMREAD_UNCHANGED alone keeps the transparency of a PNG.
        pixels: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED if is_png else cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageError(f"{path}: cannot be decoded ({error}); re-copy the file") from error
    if pixels is None:
        raise ImageError(f"{path}: cannot be decoded; re-copy the file")
    if pixels.dtype == np.uint16:
        if bits < 16 and pixels.ndim == 3:  # as with Pillow, so that both readers agree
            raise ImageError(deep_colour_message(path, bits))
        pixels = to_eight_bits(pixels, bits)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    return _over_white(np.ascontiguousarray(pixels[:, :, :3]), pixels[:, :, 3:])


def _over_white(pixels_hwc: NDArray[np.uint8], alpha_hw1: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if not alpha_hw1.size:
        return pixels_hwc
    alpha = alpha_hw1.astype(np.uint32)
    return ((pixels_hwc * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
