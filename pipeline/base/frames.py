"""The pixels of a manifest's row, read from its file."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import DataError
from pipeline.base.manifest import Row
from pipeline.base.project import Project, safe_join
from runtime.errors import ImageError
from runtime.images import read_image

_REDUCED = {2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4, 8: cv2.IMREAD_REDUCED_GRAYSCALE_8}


def read_frame(project: Project, row: Row) -> NDArray[np.uint8]:
    """Decode a row's image: (height, width, 3) RGB.

    Raises:
        DataError: the file is missing or broken, or is not of the size that the manifest states.
    """
    try:
        frame_hwc = read_image(safe_join(project.root, row.path), max_pixels=row.width * row.height)
    except ImageError as error:
        raise DataError(str(error)) from error
    if frame_hwc.shape[:2] != (row.height, row.width):
        height, width = frame_hwc.shape[:2]
        raise DataError(f"{row.path}: found {width}x{height} pixels; the manifest says {row.width}x{row.height}")
    return frame_hwc


def read_thumbnail(project: Project, row: Row, side: int) -> NDArray[np.uint8]:
    """The picture in grey, (height, width) uint8, its longer side `side` pixels.

    Raises:
        DataError: the file is missing or broken.
    """
    path = safe_join(project.root, row.path)
    # A JPEG can be decoded at a half, a quarter or an eighth for a part of the cost; a thin picture would vanish.
    shorter, longer = sorted((row.width, row.height))
    reduction = max((n for n in _REDUCED if longer >= n * side and shorter >= n), default=1)
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        grey_hw = cv2.imdecode(data, _REDUCED.get(reduction, cv2.IMREAD_GRAYSCALE)) if data.size else None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); run `pipe extract` again") from error
    if grey_hw is None:
        raise DataError(f"{path}: cannot be decoded; run `pipe extract` again")
    scale = side / max(grey_hw.shape)
    size = (max(1, round(grey_hw.shape[1] * scale)), max(1, round(grey_hw.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(grey_hw, size, interpolation=interpolation), dtype=np.uint8)
