"""Presentation times: exact seconds since the first frame, also where the clock of the file jumps, restarts or stands.

Cameras set their clock while they film, and transport streams are joined by `cat`. Then times go on from the last one,
as they do in ffmpeg.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

FALLBACK_RATE = Fraction(25)  # frames per second, where a clip states neither times nor a rate

# A longer gap is a jump of the clock, in seconds. Formats for broadcasts may jump at any time, and ffmpeg takes ten
# seconds too. Recordings of a screen or of a motion sensor have true gaps of minutes in the other formats.
_LEAST_JUMP = {"mpegts": Fraction(10), "mpeg": Fraction(10)}
_LEAST_JUMP_ELSEWHERE = Fraction(600)
_STEADY = 10  # after a jump the clock runs as before; where the next gap is as long, frames are that rare
_LEAST_RESTART = Fraction(1, 2)  # seconds backward; a decoder may give the frames of a damaged clip less out of order


@dataclass(frozen=True)
class Break:
    """A place where the clock of a clip jumps or restarts."""

    after: Fraction  # seconds since the first frame
    gap: Fraction  # seconds that the clock goes forward; negative is backward


def least_jump(demuxer: str) -> Fraction:
    """The shortest gap between two frames, in seconds, that is a jump of the clock.

    Args:
        demuxer: FFmpeg's name of the container's format.
    """
    return _LEAST_JUMP.get(demuxer, _LEAST_JUMP_ELSEWHERE)


def is_jump(gap: Fraction, neighbour: Fraction | None, least: Fraction) -> bool:
    """Whether the clock jumps forward between two frames.

    Args:
        gap: seconds between the frames.
        neighbour: seconds from the second of them to the frame after it; for the last frame the gap before this one;
            None where there is neither.
        least: of `least_jump`.
    """
    return gap > least and (neighbour is None or neighbour * _STEADY < gap)


class Clock:
    """Times of the frames of a clip, which come in the decoder's order.

    A frame without a time starts where the one before it ends. So does each of several frames that state one time.
    """

    def __init__(self, stream: VideoStream, demuxer: str) -> None:
        self._unit = stream.time_base or Fraction(1, 1000)
        self._least_jump = least_jump(demuxer)
        self.rate = stream.average_rate or FALLBACK_RATE
        self._offset: Fraction | None = None  # stated time of the first frame, or where that would be after a break
        self._first: Fraction | None = None  # time of the first packet: times start there until a frame comes
        self._stated = Fraction(0)  # the latest stated time since the last break
        self._gap: Fraction | None = None  # before the latest frame
        self._latest = Fraction(0)
        self._is_standing = False
        self.end = Fraction(0)
        # Seconds between frames that state one time: the mean, since a clock that stands gives frames no duration.
        stated = (stream.duration or 0) * self._unit
        self.spacing = stated / stream.frames if stated and stream.frames else 1 / self.rate
        self.breaks: list[Break] = []
        self.n_without_time = 0  # frames
        self.n_standing = 0  # frames that state the time of the one before them
        self.n_backward = 0  # frames earlier than the one before them

    def time_of_packet(self, packet: Packet[VideoStream]) -> Fraction:
        """The time of a packet's frame, in seconds; for a packet without a time, the end of the frames so far."""
        if packet.pts is None:
            return self.end
        stated = packet.pts * self._unit
        self._first = stated if self._first is None else self._first
        time = stated - (self._first if self._offset is None else self._offset)
        return self.end if abs(time - self.end) > self._least_jump else max(Fraction(0), time)

    def time_of(self, frame: VideoFrame, following: VideoFrame | None = None) -> Fraction:
        """The time of a frame, in seconds.

        Args:
            frame: as decoded.
            following: the frame that the decoder gave next; None after the last frame.
        """
        if frame.pts is None:
            self.n_without_time += 1
            time = self.end
        else:
            after = None if following is None or following.pts is None else following.pts * self._unit
            time = self._time(frame.pts * self._unit, after)
        duration = frame.duration * self._unit
        if not 0 < duration <= self._least_jump:
            duration = min(1 / self.rate, self._gap or 1 / self.rate)  # a jump makes the mean rate low
        if self._is_standing:
            duration = self.spacing
        self._latest = max(self._latest, time)
        self.end = max(self.end, time + duration)
        return time

    def _time(self, stated: Fraction, after: Fraction | None) -> Fraction:
        if self._offset is None:
            self._offset = stated - self.end
            self._stated = stated
            return self.end
        gap = stated - self._stated
        if gap == 0 and (self._is_standing or after == stated or (after is None and self._gap is None)):
            self.n_standing += 1
            if not self._is_standing:
                self._is_standing = True
                self.end = self._latest + self.spacing
            return self.end
        self._is_standing = False
        following = None if after is None else after - stated
        if is_jump(gap, self._gap if following is None else following, self._least_jump) or self._restarts(
            gap, following
        ):
            self.breaks.append(Break(self.end, gap))
            resumed = self._latest + (self._gap or following or 1 / self.rate)
            self._offset = stated - resumed
        elif gap < 0:
            self.n_backward += 1
            return stated - self._offset
        else:
            self._gap = gap or self._gap
        self._stated = stated
        return max(self._latest, stated - self._offset)

    def _restarts(self, gap: Fraction, following: Fraction | None) -> bool:
        """Whether the clock goes on from an earlier time. A single frame that is early is no restart."""
        return gap < -_LEAST_RESTART and following is not None and 0 <= following < -gap


def without_jumps(
    times: NDArray[np.int64], unit: Fraction, demuxer: str, rate: Fraction
) -> tuple[NDArray[np.int64], list[Break]]:
    """Take the jumps of a clock out of the times of a clip.

    Args:
        times: (n,) of presentation, each later than the one before it, in the stream's units.
        unit: seconds of one step of them.
        demuxer: FFmpeg's name of the container's format.
        rate: frames per second, where the clip is too short to show it.

    Returns:
        The times, counted from the first one, and the jumps.
    """
    gaps = np.diff(times)
    breaks = []
    for position in np.flatnonzero(gaps > least_jump(demuxer) / unit):
        before = int(gaps[position - 1]) * unit if position else None
        following = int(gaps[position + 1]) * unit if position + 1 < len(gaps) else None
        gap = int(gaps[position]) * unit
        if is_jump(gap, before if following is None else following, least_jump(demuxer)):
            gaps[position] = round((before or following or 1 / rate) / unit)
            breaks.append(Break(int(gaps[: position + 1].sum()) * unit, gap))
    return np.concatenate([[0], np.cumsum(gaps)]).astype(np.int64), breaks


def lasts_longer(container: InputContainer, stream: VideoStream, seconds: float) -> bool:
    """Whether the packets of a clip fill more than so many seconds, without the jumps of its clock.

    Args:
        container: the clip, just opened; its packets are read until the answer is known.
        stream: its video stream.
        seconds: the bound.
    """
    unit, least = stream.time_base or Fraction(1, 1000), least_jump(container.format.name)
    latest, total = None, Fraction(0)
    with contextlib.suppress(FFmpegError):
        for packet in container.demux(stream):
            if packet.dts is None:
                continue
            gap = Fraction(0) if latest is None else (packet.dts - latest) * unit
            latest = packet.dts
            total += gap if 0 < gap <= least else 0
            if total > seconds:
                return True
    return False


def warning_of(breaks: list[Break]) -> str:
    """The warning for the breaks of a clock; empty where there is none."""
    if not breaks:
        return ""
    first = f"after {float(breaks[0].after):.2f} s; the times go on from there"
    if len(breaks) > 1:
        return f"its clock jumps or restarts {len(breaks)} times, first {first}"
    if breaks[0].gap < 0:
        return f"its clock restarts {first}"
    return f"its clock jumps forward by {float(breaks[0].gap):g} s {first}"
