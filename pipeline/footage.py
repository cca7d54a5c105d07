"""What a clip's container says of it: rate, keyframes, colour. Read from its packets, which are not decoded."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.video.reformatter import ColorTrc
from av.video.stream import VideoStream

from pipeline import video
from pipeline.errors import DataError

_TRANSFERS = {ColorTrc.SMPTE2084: "PQ (HDR)", ColorTrc.ARIB_STD_B67: "HLG (HDR)", ColorTrc.UNSPECIFIED: "not stated"}
_STEADY = Fraction(1, 10)  # of the mean gap, or one unit of time: so far a constant rate may stray by rounding


@dataclass(frozen=True)
class Footage:
    """A clip by its packets; those that an edit list hides do not count."""

    container: str  # FFmpeg's name of the demuxer
    pixel_format: str  # FFmpeg's name: yuv420p, yuv420p10le, …
    transfer: str  # BT709, PQ (HDR), HLG (HDR), …, or "not stated"
    frames_per_second: float | None  # the mean; None with fewer than two times
    rate_is_constant: bool | None
    shortest_gap_seconds: float | None  # between the presentation times of neighbours
    longest_gap_seconds: float | None
    keyframes: int
    longest_keyframe_gap_seconds: float | None  # None with fewer than two keyframes
    packets_without_time: int


def survey(path: Path) -> Footage:
    """Read a clip's packets to the end, or to where they cannot be read on.

    Raises:
        DataError: the file is no clip.
    """
    options = {"protocol_whitelist": "file"}
    demuxer = video.demuxer_of(path)
    try:
        # An absolute path, since FFmpeg takes `name:` at the start of a relative one for a protocol.
        with av.open(str(path.absolute()), format=demuxer, metadata_errors="ignore", options=options) as container:
            stream = container.streams.best("video")
            if not isinstance(stream, VideoStream):
                raise DataError(f"{path}: has no video stream; delete the file or replace it with a clip")
            return _footage(demuxer, stream, _packets(container, stream))
    except FFmpegError as error:
        raise DataError(
            f"{path}: cannot be opened as a video ({error.strerror}); delete or re-copy the file"
        ) from error


def _packets(container: InputContainer, stream: VideoStream) -> list[tuple[int | None, bool]]:
    """(presentation time or None, whether it is a keyframe) of each packet that has a frame to show."""
    found: list[tuple[int | None, bool]] = []
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, FFmpegError):  # a damaged end; what decodes is told by the decoder
            return found
        if packet.size and not packet.is_discard:
            found.append((packet.pts, packet.is_keyframe))


def _footage(demuxer: str, stream: VideoStream, packets: list[tuple[int | None, bool]]) -> Footage:
    unit = stream.time_base or Fraction(1, 1000)
    times = sorted(time * unit for time, _ in packets if time is not None)
    key_times = sorted(time * unit for time, is_key in packets if is_key and time is not None)
    gaps = [after - before for before, after in pairwise(times)]
    key_gaps = [after - before for before, after in pairwise(key_times)]
    mean = sum(gaps, Fraction(0)) / len(gaps) if gaps else None
    return Footage(
        container=demuxer,
        pixel_format=stream.codec_context.pix_fmt or "unknown",
        transfer=_transfer(stream.codec_context.color_trc),
        frames_per_second=float(1 / mean) if mean else None,
        rate_is_constant=all(abs(gap - mean) <= max(_STEADY * mean, unit) for gap in gaps) if mean else None,
        shortest_gap_seconds=float(min(gaps)) if gaps else None,
        longest_gap_seconds=float(max(gaps)) if gaps else None,
        keyframes=sum(is_key for _, is_key in packets),
        longest_keyframe_gap_seconds=float(max(key_gaps)) if key_gaps else None,
        packets_without_time=sum(time is None for time, _ in packets),
    )


def _transfer(number: int) -> str:
    try:
        transfer = ColorTrc(number)
    except ValueError:
        return f"unknown ({number})"
    return _TRANSFERS.get(transfer, transfer.name)
