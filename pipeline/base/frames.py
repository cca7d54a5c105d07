"""The one reader of frames: it decodes the picture that a manifest row names."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import DataError
from pipeline.base.manifest import Row
from pipeline.base.project import Project, safe_join, stage_that_writes
from runtime.errors import ImageError
from runtime.images import read_image
from runtime.images.opencv import read_bgr
from runtime.system.regular_files import open_regular

# OpenCV decodes a JPEG at a half, a quarter or an eighth of its size, which is faster than decoding all of it.
_REDUCED_FLAGS = {
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


def read_frame(project: Project, row: Row) -> NDArray[np.uint8]:
    """Decode a row's picture.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        DataError: the file is missing or broken, or is not the one that the manifest states.
    """
    content = _read_bytes(project, row)
    try:
        frame_hwc = read_image(Path(row.path), max_pixels=row.width * row.height, content=content)
    except ImageError as error:
        raise _unreadable(str(error), row.path) from error
    return _of_stated_size(frame_hwc, row)


def read_frame_bgr(project: Project, row: Row) -> NDArray[np.uint8]:
    """Decode a row's picture for OpenCV.

    Returns:
        (height, width, 3) uint8 BGR.

    Raises:
        DataError: as `read_frame`.
    """
    content = _read_bytes(project, row)
    try:
        frame_hwc = read_bgr(Path(row.path), max_pixels=row.width * row.height, content=content)
    except ImageError as error:
        raise _unreadable(str(error), row.path) from error
    return _of_stated_size(frame_hwc, row)


def _read_bytes(project: Project, row: Row) -> bytes:
    """Read the file of a row's picture, and compare it with the manifest: it may have been copied over, or have rotted.

    Raises:
        DataError: the file is missing, or has other bytes than the stage wrote.
    """
    try:
        with open_regular(safe_join(project.root, row.path)) as file:
            content = file.read()
    except OSError as error:
        raise _unreadable(f"{row.path}: {error.strerror}; expected a picture that can be read", row.path) from error
    if row.sha256 and hashlib.sha256(content).hexdigest() != row.sha256:
        raise _unreadable(f"{row.path}: found other bytes than those of the manifest", row.path)
    return content


def _unreadable(reason: str, path: str | Path) -> DataError:
    """The error for a frame or copy. A stage writes it again, so nobody need re-copy it as a photo."""
    return DataError(f"{reason.removesuffix('; re-copy the file')}; run `pipe {_writer(path)}` again")


def _writer(path: str | Path) -> str:
    return stage_that_writes(Path(path)) or "extract"  # while it screens, extract reads its own temporary folder


def _of_stated_size(frame_hwc: NDArray[np.uint8], row: Row) -> NDArray[np.uint8]:
    height, width = frame_hwc.shape[:2]
    if (height, width) != (row.height, row.width):
        raise DataError(
            f"{row.path}: found {width} x {height} pixels; the manifest says {row.width} x {row.height}; "
            f"run `pipe {_writer(row.path)}` again"
        )
    return frame_hwc


def read_thumbnail(project: Project, row: Row, side: int) -> NDArray[np.uint8]:
    """Decode a row's picture in grey, resized up or down to a given longer side.

    Args:
        project: the project that the row's path is relative to.
        row: the picture's row; its width and height must be those of the file.
        side: pixels of the result's longer side.

    Returns:
        (height, width) uint8.

    Raises:
        DataError: the file is missing or broken.
    """
    grey_hw = _decode_grey(_read_bytes(project, row), Path(row.path), (row.width, row.height), side)
    return resize_longer_side(grey_hw, side)


def read_grey(path: Path, width: int, height: int, side: int) -> NDArray[np.uint8]:
    """Decode a picture in grey; a picture larger than `side` is resized down to it.

    Args:
        path: a JPEG or PNG file.
        width: the file's width in pixels.
        height: the file's height in pixels.
        side: pixels of the result's longer side, at most.

    Returns:
        (height, width) uint8.

    Raises:
        DataError: the file is missing or broken.
    """
    try:
        with open_regular(path) as file:
            content = file.read()
    except OSError as error:
        raise _unreadable(f"{path}: cannot be read ({error.strerror})", path) from error
    return _decode_grey(content, path, (width, height), side)


def _decode_grey(content: bytes, path: Path, size: tuple[int, int], side: int) -> NDArray[np.uint8]:
    shorter, longer = sorted(size)
    # A picture thinner than eight pixels would vanish at an eighth of its size.
    reduction = max((n for n in _REDUCED_FLAGS if longer >= n * side and shorter >= n), default=1)
    data = np.frombuffer(content, np.uint8)
    decoded = cv2.imdecode(data, _REDUCED_FLAGS.get(reduction, cv2.IMREAD_GRAYSCALE)) if data.size else None
    if decoded is None:
        raise _unreadable(f"{path}: cannot be decoded", path)
    grey_hw: NDArray[np.uint8] = np.asarray(decoded, np.uint8)
    return resize_longer_side(grey_hw, side) if max(grey_hw.shape) > side else grey_hw


def resize_longer_side(pixels: NDArray[np.uint8], side: int, enlarging: int = cv2.INTER_LINEAR) -> NDArray[np.uint8]:
    """Resize a picture to a given longer side. Its shorter side keeps at least one pixel.

    Args:
        pixels: (height, width) or (height, width, channels) uint8.
        side: pixels of the result's longer side.
        enlarging: OpenCV's interpolation for enlarging; reducing always averages over areas.

    Returns:
        The resized picture, with the channels of `pixels`, uint8.
    """
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else enlarging
    return np.asarray(cv2.resize(pixels, size, interpolation=interpolation), np.uint8)
