"""What a clip's container says of it: rate, keyframes, colour. Read from its packets, which are not decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

from av.packet import Packet
from av.video.reformatter import ColorTrc
from av.video.stream import VideoStream

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


@dataclass(frozen=True)
class PacketLog:
    """What is noted of each packet that has a frame to show, by whoever reads them all."""

    times: list[int | None] = field(default_factory=list)  # of presentation, in the stream's units
    are_keys: list[bool] = field(default_factory=list)

    def note(self, packet: Packet[VideoStream]) -> None:
        """Take one more packet, in the order of the file."""
        if packet.size and not packet.is_discard:
            self.times.append(packet.pts)
            self.are_keys.append(packet.is_keyframe)


def footage_of(demuxer: str, stream: VideoStream, log: PacketLog) -> Footage:
    """Sum up the packets of a clip that was read to its end, or to where it cannot be read on.

    Args:
        demuxer: FFmpeg's name.
        stream: of the video.
        log: its packets.
    """
    unit = stream.time_base or Fraction(1, 1000)
    times = sorted(time * unit for time in log.times if time is not None)
    both = zip(log.times, log.are_keys, strict=True)
    key_times = sorted(time * unit for time, is_key in both if is_key and time is not None)
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
        keyframes=sum(log.are_keys),
        longest_keyframe_gap_seconds=float(max(key_gaps)) if key_gaps else None,
        packets_without_time=log.times.count(None),
    )


def _transfer(number: int) -> str:
    try:
        transfer = ColorTrc(number)
    except ValueError:
        return f"unknown ({number})"
    return _TRANSFERS.get(transfer, transfer.name)
