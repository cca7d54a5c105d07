"""Statistics of a clip's packets: frame rate, keyframes, colour. The packets are not decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

from av.packet import Packet
from av.video.reformatter import ColorTrc
from av.video.stream import VideoStream

_TRANSFERS = {ColorTrc.SMPTE2084: "PQ (HDR)", ColorTrc.ARIB_STD_B67: "HLG (HDR)", ColorTrc.UNSPECIFIED: "not stated"}
_STEADY = Fraction(1, 10)  # of the mean gap, or one unit of time: rounding may change a constant rate's gaps by that


@dataclass(frozen=True)
class PacketStats:
    """Statistics of a clip's packets, without those that an edit list hides. `extract.json` has them as `footage`."""

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
    """Times and keyframe flags of the packets that have a frame to show. Whoever reads all packets fills it."""

    times: list[int | None] = field(default_factory=list)  # of presentation, in the stream's units
    are_keys: list[bool] = field(default_factory=list)

    def note(self, packet: Packet[VideoStream]) -> None:
        """Add a packet. Packets come in the order of the file."""
        if packet.size and not packet.is_discard:
            self.times.append(packet.pts)
            self.are_keys.append(packet.is_keyframe)


def packet_stats_of(demuxer: str, stream: VideoStream, log: PacketLog) -> PacketStats:
    """Compute the statistics of a clip that was read to its end, or to where it becomes unreadable.

    Args:
        demuxer: FFmpeg's name of the demuxer.
        stream: the video stream.
        log: the packets of the stream.
    """
    unit = stream.time_base or Fraction(1, 1000)
    times = sorted(time * unit for time in log.times if time is not None)
    packets = zip(log.times, log.are_keys, strict=True)
    key_times = sorted(time * unit for time, is_key in packets if is_key and time is not None)
    gaps = [after - before for before, after in pairwise(times)]
    key_gaps = [after - before for before, after in pairwise(key_times)]
    mean = sum(gaps, Fraction(0)) / len(gaps) if gaps else None
    return PacketStats(
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
