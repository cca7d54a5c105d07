"""Pictures inside a page: as data URIs, all of them together within a bound."""

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

MOST_BYTES = 5_000_000  # of all pictures together, as files; as text they are a third more
LARGE_BYTES = 400_000  # a file that is larger is made smaller in any case
MOST_PIXELS = 100_000_000  # of one picture
_KINDS = {".png": "image/png", ".jpg": "image/jpeg"}


@dataclass(frozen=True)
class _Rung:
    """How pictures are made smaller where the step before was not enough."""

    width: int  # pixels
    jpeg_quality: int


_LADDER = (_Rung(1400, 85), _Rung(1000, 75), _Rung(700, 60), _Rung(450, 40))


def data_uris(paths: Sequence[Path], most_bytes: int = MOST_BYTES) -> Mapping[Path, str]:
    """The pictures, large ones as JPEG; where they do not fit in, all of them, as little smaller as will do.

    Raises:
        DataError: one cannot be read, or they are too many to fit in at any size.
    """
    contents = {path: _as_it_is(path) for path in paths}
    contents |= {path: _smaller(path, _LADDER[0]) for path, (_, it) in contents.items() if len(it) > LARGE_BYTES}
    ladder = iter(_LADDER)
    while sum(len(content) for _, content in contents.values()) > most_bytes:
        rung = next(ladder, None)
        if rung is None:
            raise DataError(f"{paths[0].parent}: {len(paths)} pictures do not fit into {most_bytes:,} bytes")
        contents = {path: _smaller(path, rung) for path in paths}
    return {path: f"data:{kind};base64,{base64.b64encode(it).decode()}" for path, (kind, it) in contents.items()}


def _as_it_is(path: Path) -> tuple[str, bytes]:
    return _KINDS[path.suffix], path.read_bytes()


def _smaller(path: Path, rung: _Rung) -> tuple[str, bytes]:
    try:
        pixels_hwc = read_image(path, max_pixels=MOST_PIXELS)
    except ImageError as error:
        raise DataError(str(error)) from error
    height, width = pixels_hwc.shape[:2]
    if width > rung.width:
        size = (rung.width, max(1, round(height * rung.width / width)))
        pixels_hwc = np.asarray(cv2.resize(pixels_hwc, size, interpolation=cv2.INTER_AREA), np.uint8)
    bgr_hwc = cv2.cvtColor(pixels_hwc, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".jpg", bgr_hwc, (cv2.IMWRITE_JPEG_QUALITY, rung.jpeg_quality))[1]
    return _KINDS[".jpg"], encoded.tobytes()
