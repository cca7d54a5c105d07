"""A decoded frame as people see it: upright, square pixels, 8-bit RGB, HDR brought to SDR."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, cast

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from pipeline import tones

# FFmpeg's numbers of the matrices that its scaler knows; 2 is "not stated" and is read as BT.601, as FFmpeg does.
_MATRICES = frozenset({0, 1, 2, 4, 5, 6, 7, 9})
_BT2020_CONSTANT_LUMINANCE, _BT2020, _UNSTATED = 10, 9, 2
# In 8 bits the scaler's quick way is exact to a level; in more it is two levels too dark at white.
_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


def square_size(width: int, height: int, aspect_of_pixel: Fraction | None) -> tuple[int, int]:
    """(width, height) of a picture once its pixels are square: the width changes, the lines stay."""
    if not aspect_of_pixel or aspect_of_pixel < 0:
        return width, height
    return max(1, round(width * aspect_of_pixel)), height


def upright_rgb(frame: VideoFrame, aspect_of_pixel: Fraction | None) -> NDArray[np.uint8]:
    """The picture as (height, width, 3) RGB, turned and mirrored as the clip says, to the nearest quarter turn.

    Matrix (BT.601, BT.709, BT.2020) and range are those that the frame states. HLG and PQ become SDR, see `tones`.
    Alpha is left out.

    Args:
        frame: as decoded; its statement of an unknown matrix is overwritten.
        aspect_of_pixel: width over height of one stored pixel; None for square ones.
    """
    if not matrix_is_known(frame):
        frame.colorspace = _BT2020 if frame.colorspace == _BT2020_CONSTANT_LUMINANCE else _UNSTATED
    width, height = square_size(frame.width, frame.height, aspect_of_pixel)
    curve = tones.CURVES.get(frame.color_trc)
    deep = max(component.bits for component in frame.format.components) > 8
    # One thread: pictures are converted side by side already.
    rgb = frame.reformat(
        width,
        height,
        format="rgb24" if curve is None else "rgb48le",
        interpolation=int(_EXACT if deep or (width, height) != (frame.width, frame.height) else Interpolation.BILINEAR),
        threads=1,
    )
    pixels_hwc: NDArray[Any] = rgb.to_ndarray()
    if curve is not None:
        pixels_hwc = tones.to_sdr(pixels_hwc, curve, wide_gamut=frame.color_primaries == _BT2020)
    return _turned(np.asarray(pixels_hwc, dtype=np.uint8), frame)


def matrix_is_known(frame: VideoFrame) -> bool:
    """Whether the frame states a matrix that can be honoured, or none."""
    return frame.colorspace in _MATRICES


def _turned(pixels_hwc: NDArray[np.uint8], frame: VideoFrame) -> NDArray[np.uint8]:
    x_from_x, y_from_x, x_from_y, y_from_y = _display_matrix(frame)
    if abs(y_from_x) > abs(x_from_x):
        pixels_hwc = pixels_hwc.transpose(1, 0, 2)
        mirror_x, mirror_y = x_from_y < 0, y_from_x < 0
    else:
        mirror_x, mirror_y = x_from_x < 0, y_from_y < 0
    return np.ascontiguousarray(pixels_hwc[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1])


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """The part that turns and mirrors: x' = a x + c y, y' = b x + d y as (a, b, c, d), in units of 1/65536."""
    side_data: Mapping[str, Any] = cast("Any", frame.side_data)  # PyAV declares another type
    if "DISPLAYMATRIX" not in side_data:
        return 65536, 0, 0, 65536
    a, b, _, c, d = (int(number) for number in np.frombuffer(side_data["DISPLAYMATRIX"], dtype=np.int32)[:5])
    return a, b, c, d
