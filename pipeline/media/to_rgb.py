"""A decoded frame as people see it: upright, square pixels, 8-bit RGB, HDR brought to SDR."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, cast

import cv2
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from pipeline.media import tone_mapping

# FFmpeg's numbers of the matrices that its scaler knows; 2 is "not stated" and is read as BT.601, as FFmpeg does.
_MATRICES = frozenset({0, 1, 2, 4, 5, 6, 7, 9})
_BT2020_CONSTANT_LUMINANCE, _BT2020, _UNSTATED = 10, 9, 2
_LIKE_FFMPEG = "bicubic"  # what the program ffmpeg does unless it is told otherwise
_EXACT = "bicubic+accurate_rnd+full_chroma_int"  # where a curve follows that would widen an error


def square_size(width: int, height: int, aspect_of_pixel: Fraction | None) -> tuple[int, int]:
    """(width, height) of a picture once its pixels are square: the width changes, the lines stay."""
    if not aspect_of_pixel or aspect_of_pixel < 0:
        return width, height
    return max(1, round(width * aspect_of_pixel)), height


def upright_rgb(frame: VideoFrame, aspect_of_pixel: Fraction | None) -> NDArray[np.uint8]:
    """The picture as (height, width, 3) RGB, turned and mirrored as the clip says, to the nearest quarter turn.

    Where that spares work it is a view of memory in OpenCV's order, BGR: see `bgr`.

    Matrix (BT.601, BT.709, BT.2020) and range are those that the frame states. HLG and PQ become SDR, see `tones`.
    Alpha is left out.

    Args:
        frame: as decoded; its statement of an unknown matrix is overwritten.
        aspect_of_pixel: width over height of one stored pixel; None for square ones.
    """
    if not matrix_is_known(frame):
        frame.colorspace = _BT2020 if frame.colorspace == _BT2020_CONSTANT_LUMINANCE else _UNSTATED
    size = square_size(frame.width, frame.height, aspect_of_pixel)
    curve = tone_mapping.CURVES.get(frame.color_trc)
    if curve is not None:
        signal_hwc = np.asarray(_scaled(frame, size, "rgb48le", _EXACT).to_ndarray(), dtype=np.uint16)
        return _turned(tone_mapping.to_sdr(signal_hwc, curve, wide_gamut=frame.color_primaries == _BT2020), frame)
    if size == (frame.width, frame.height) and max(component.bits for component in frame.format.components) == 8:
        # The same pixels without a filter graph. One thread: pictures are converted side by side already.
        shown = frame.reformat(format="bgr24", interpolation=int(Interpolation.BILINEAR), threads=1)
        return _turned(np.asarray(shown.to_ndarray(), dtype=np.uint8), frame)[:, :, ::-1]
    return _turned(np.asarray(_scaled(frame, size, "rgb24", _LIKE_FFMPEG).to_ndarray(), dtype=np.uint8), frame)


def bgr(pixels_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An RGB picture in OpenCV's order; it costs nothing where the picture is a view of such memory.

    Args:
        pixels_hwc: (height, width, 3) uint8 RGB.
    """
    reversed_hwc = pixels_hwc[:, :, ::-1]
    if reversed_hwc.flags.c_contiguous:
        return reversed_hwc
    return np.asarray(cv2.cvtColor(pixels_hwc, cv2.COLOR_RGB2BGR), dtype=np.uint8)


def matrix_is_known(frame: VideoFrame) -> bool:
    """Whether the frame states a matrix that can be honoured, or none."""
    return frame.colorspace in _MATRICES


def _scaled(frame: VideoFrame, size: tuple[int, int], pixels: str, flags: str) -> VideoFrame:
    """By FFmpeg's filter, which knows where the chroma samples of a frame lie; `reformat` does not."""
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000))
    scale = graph.add("scale", f"{size[0]}:{size[1]}:flags={flags}")
    graph.link_nodes(source, scale, graph.add("format", pixels), graph.add("buffersink")).configure()
    graph.push(frame)
    return cast("VideoFrame", graph.pull())


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
    # Not `frame.side_data`: it holds the frame and is held by it, so that hundreds of them wait for Python's collector.
    side_data: Mapping[str, Any] = cast("Any", SideDataContainer)(frame)
    if "DISPLAYMATRIX" not in side_data:
        return 65536, 0, 0, 65536
    a, b, _, c, d = (int(number) for number in np.frombuffer(side_data["DISPLAYMATRIX"], dtype=np.int32)[:5])
    return a, b, c, d
