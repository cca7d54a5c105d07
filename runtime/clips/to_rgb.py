"""Turns a decoded frame into the picture that people see: upright, square pixels, 8-bit RGB, HDR mapped to SDR."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, cast

import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from runtime.images import tone_mapping

# FFmpeg's numbers of the matrices that its scaler knows; 2 is "not stated" and is read as BT.601, as FFmpeg does.
_MATRICES = frozenset({0, 1, 2, 4, 5, 6, 7, 9})
_BT2020_CONSTANT_LUMINANCE, _BT2020, _UNSTATED = 10, 9, 2
_FFMPEG_FLAGS = "bicubic"  # the default of the program ffmpeg
_EXACT_FLAGS = "bicubic+accurate_rnd+full_chroma_int"  # before a tone curve, which would amplify errors


def square_size(width: int, height: int, aspect_of_pixel: Fraction | None) -> tuple[int, int]:
    """Return (width, height) of a picture once its pixels are square: the width changes, the lines stay.

    Args:
        width: stored pixels of a line.
        height: lines.
        aspect_of_pixel: width over height of one stored pixel; None for square ones.
    """
    if not aspect_of_pixel or aspect_of_pixel < 0:
        return width, height
    return max(1, round(width * aspect_of_pixel)), height


def upright_rgb(frame: VideoFrame, aspect_of_pixel: Fraction | None) -> NDArray[np.uint8]:
    """Convert a frame to (height, width, 3) uint8 RGB, turned and mirrored as the clip says, by quarter turns.

    Where it saves work the result is a view of memory in the order BGR, which OpenCV takes without a copy.

    The frame states the matrix (BT.601, BT.709, BT.2020) and the range. HLG and PQ become SDR, see `tone_mapping`.
    Alpha is left out.

    Args:
        frame: as decoded; a matrix that is not known here is overwritten in it.
        aspect_of_pixel: width over height of one stored pixel; None for square ones.
    """
    if not matrix_is_known(frame):
        frame.colorspace = _BT2020 if frame.colorspace == _BT2020_CONSTANT_LUMINANCE else _UNSTATED
    size = square_size(frame.width, frame.height, aspect_of_pixel)
    curve = tone_mapping.CURVES.get(frame.color_trc)
    if curve is not None:
        signal_hwc = np.asarray(_scale(frame, size, "rgb48le", _EXACT_FLAGS).to_ndarray(), dtype=np.uint16)
        return _turn_upright(tone_mapping.to_sdr(signal_hwc, curve, wide_gamut=frame.color_primaries == _BT2020), frame)
    if size == (frame.width, frame.height) and max(component.bits for component in frame.format.components) == 8:
        # The same pixels without a filter graph. One thread, since pictures are converted in parallel already.
        shown = frame.reformat(format="bgr24", interpolation=int(Interpolation.BILINEAR), threads=1)
        return _turn_upright(np.asarray(shown.to_ndarray(), dtype=np.uint8), frame)[:, :, ::-1]
    return _turn_upright(np.asarray(_scale(frame, size, "rgb24", _FFMPEG_FLAGS).to_ndarray(), dtype=np.uint8), frame)


def matrix_is_known(frame: VideoFrame) -> bool:
    """Whether the frame states a matrix that FFmpeg's scaler knows, or states none."""
    return frame.colorspace in _MATRICES


def _scale(frame: VideoFrame, size: tuple[int, int], pixels: str, flags: str) -> VideoFrame:
    """Resize by FFmpeg's filter, which knows where the chroma samples of a frame lie; `reformat` does not."""
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000))
    scale = graph.add("scale", f"{size[0]}:{size[1]}:flags={flags}")
    graph.link_nodes(source, scale, graph.add("format", pixels), graph.add("buffersink")).configure()
    graph.push(frame)
    return cast("VideoFrame", graph.pull())


def _turn_upright(pixels_hwc: NDArray[np.uint8], frame: VideoFrame) -> NDArray[np.uint8]:
    x_from_x, y_from_x, x_from_y, y_from_y = _display_matrix(frame)
    if abs(y_from_x) > abs(x_from_x):
        pixels_hwc = pixels_hwc.transpose(1, 0, 2)
        mirror_x, mirror_y = x_from_y < 0, y_from_x < 0
    else:
        mirror_x, mirror_y = x_from_x < 0, y_from_y < 0
    return np.ascontiguousarray(pixels_hwc[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1])


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """The turning and mirroring part (a, b, c, d), in units of 1/65536: x' = a x + c y, y' = b x + d y."""
    # Not `frame.side_data`: it and the frame hold each other, so that hundreds of frames wait for Python's collector.
    side_data: Mapping[str, Any] = cast("Any", SideDataContainer)(frame)
    if "DISPLAYMATRIX" not in side_data:
        return 65536, 0, 0, 65536
    a, b, _, c, d = (int(entry) for entry in np.frombuffer(side_data["DISPLAYMATRIX"], dtype=np.int32)[:5])
    return a, b, c, d
