"""Pictures inside the page: as data URIs, with a bound on their size in all."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.base.errors import DataError
from runtime.errors import ImageError
from runtime.images import read_image

MOST_BYTES = 5_000_000  # of all pictures together, as files; as text they are a third larger
LARGE_BYTES = 400_000  # a larger file is reduced in any case
MOST_PIXELS = 100_000_000  # of one picture
_KINDS = {".png": "image/png", ".jpg": "image/jpeg"}


@dataclass(frozen=True)
class _Reduction:
    """A width and a quality that make a picture smaller."""

    width: int  # pixels, at most
    jpeg_quality: int


_REDUCTIONS = (_Reduction(1400, 85), _Reduction(1000, 75), _Reduction(700, 60), _Reduction(450, 40))


def data_uris(paths: Sequence[Path], most_bytes: int = MOST_BYTES) -> Mapping[Path, str]:
    """Encode pictures as data URIs.

    Large pictures become JPEGs. Where all pictures together are too large, each becomes a smaller JPEG, by the first
    reduction that is enough.

    Raises:
        DataError: a picture cannot be read, or the pictures are too large after the last reduction.
    """
    contents = {path: _unchanged(path) for path in paths}
    large = [path for path, (_, content) in contents.items() if len(content) > LARGE_BYTES]
    contents |= {path: _reduced(path, _REDUCTIONS[0]) for path in large}
    reductions = iter(_REDUCTIONS)
    while sum(len(content) for _, content in contents.values()) > most_bytes:
        reduction = next(reductions, None)
        if reduction is None:
            raise DataError(f"{paths[0].parent}: {len(paths)} pictures do not fit into {most_bytes:,} bytes")
        contents = {path: _reduced(path, reduction) for path in paths}
    return {
        path: f"data:{kind};base64,{base64.b64encode(content).decode()}" for path, (kind, content) in contents.items()
    }


def _unchanged(path: Path) -> tuple[str, bytes]:
    return _KINDS[path.suffix], path.read_bytes()


def _reduced(path: Path, reduction: _Reduction) -> tuple[str, bytes]:
    try:
        pixels_hwc = read_image(path, max_pixels=MOST_PIXELS)
    except ImageError as error:
        raise DataError(str(error)) from error
    height, width = pixels_hwc.shape[:2]
    if width > reduction.width:
        size = (reduction.width, max(1, round(height * reduction.width / width)))
        pixels_hwc = np.asarray(cv2.resize(pixels_hwc, size, interpolation=cv2.INTER_AREA), np.uint8)
    bgr_hwc = cv2.cvtColor(pixels_hwc, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".jpg", bgr_hwc, (cv2.IMWRITE_JPEG_QUALITY, reduction.jpeg_quality))[1]
    return _KINDS[".jpg"], encoded.tobytes()
