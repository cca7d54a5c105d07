"""Deinterlacing of the frames that say that they are interlaced, by FFmpeg's filter bwdif."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import cast

from av.error import BlockingIOError as AgainError
from av.error import EOFError as EndError
from av.filter import Graph
from av.video.frame import VideoFrame

from runtime.clips.decoder import DecodedFrame

_PROGRESSIVE = frozenset({0, 1})  # FFmpeg's numbers of the orders of fields: not stated, and none


def states_fields(field_order: int) -> bool:
    """Whether the header of a stream states that its frames have two fields.

    Args:
        field_order: FFmpeg's number, of the codec context.
    """
    return field_order not in _PROGRESSIVE


def deinterlaced(frames: Iterator[DecodedFrame]) -> Iterator[DecodedFrame]:
    """Make whole pictures of interlaced frames. Other frames stay as they are, bit by bit.

    A picture is made from a frame and its two neighbours, so the filter needs every frame of the clip.

    Args:
        frames: every frame of a clip, in presentation order.
    """
    field_filter: _FieldFilter | None = None
    for decoded in frames:
        if field_filter is not None and not field_filter.fits(decoded.frame):
            yield from field_filter.rest()
            field_filter = None
        if field_filter is None and decoded.frame.interlaced_frame:
            field_filter = _FieldFilter(decoded.frame)
        if field_filter is None:
            yield decoded
        else:
            yield from field_filter.push(decoded)
    if field_filter is not None:
        yield from field_filter.rest()


class _FieldFilter:
    """The filter, for frames of one size and format. Its pictures come a frame later."""

    def __init__(self, frame: VideoFrame) -> None:
        self._shape = frame.width, frame.height, frame.format.name
        self._waiting: deque[DecodedFrame] = deque()
        self._graph = Graph()
        unit = Fraction(1, 1000)
        source = self._graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=unit)
        bwdif = self._graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
        self._graph.link_nodes(source, bwdif, self._graph.add("buffersink")).configure()
        self._pushed = 0

    def fits(self, frame: VideoFrame) -> bool:
        return (frame.width, frame.height, frame.format.name) == self._shape

    def push(self, decoded: DecodedFrame) -> Iterator[DecodedFrame]:
        self._waiting.append(decoded)
        decoded.frame.pts = self._pushed  # its own time is in the target by now, and may repeat or go back
        self._pushed += 1
        self._graph.push(decoded.frame)
        yield from self._pictures()

    def rest(self) -> Iterator[DecodedFrame]:
        self._graph.push(None)
        yield from self._pictures()

    def _pictures(self) -> Iterator[DecodedFrame]:
        while True:
            try:
                picture = cast("VideoFrame", self._graph.pull())
            except (AgainError, EndError):
                return
            yield replace(self._waiting.popleft(), frame=picture)
