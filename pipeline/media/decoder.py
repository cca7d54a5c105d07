"""Decoding: a clip from end to end, or only what its plan needs. Times are exact, and damage is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.media.decode_plan import Packets, Segment, Target
from pipeline.media.demuxer import DamagedClipError
from pipeline.media.packet_stats import PacketLog

FALLBACK_RATE = Fraction(25)  # frames per second, where a clip states neither times nor a rate


@dataclass(frozen=True)
class Decoded:
    """A frame as it left the decoder."""

    frame: VideoFrame
    target: Target


class Clock:
    """Presentation times since the first frame, exact; where a frame has none, the end of the one before it."""

    def __init__(self, stream: VideoStream) -> None:
        self._unit = stream.time_base or Fraction(1, 1000)
        self.rate = stream.average_rate or FALLBACK_RATE
        self._start: Fraction | None = None
        self._first: Fraction | None = None  # of the first packet: where times start if no frame has come yet
        self._latest = Fraction(0)
        self.end = Fraction(0)
        self.invented = 0
        self.backward = 0

    def time_of_packet(self, packet: Packet[VideoStream]) -> Fraction:
        """The time of what a packet would show; where it states none, that at which the frames so far end."""
        if packet.pts is None:
            return self.end
        stated = packet.pts * self._unit
        self._first = stated if self._first is None else self._first
        return max(Fraction(0), stated - (self._first if self._start is None else self._start))

    def time_of(self, frame: VideoFrame) -> Fraction:
        if frame.pts is None:
            self.invented += 1
            time = self.end
        else:
            stated = frame.pts * self._unit
            self._start = stated - self.end if self._start is None else self._start
            time = stated - self._start
        self.backward += int(time < self._latest)
        self._latest = max(self._latest, time)
        self.end = max(self.end, time + (frame.duration * self._unit or 1 / self.rate))
        return time


class WholeDecoder:
    """Decodes every frame of a clip, and keeps the books."""

    def __init__(self, path: Path, container: InputContainer, stream: VideoStream, *, strict: bool) -> None:
        self.log = PacketLog()
        self._path = path
        self._container = container
        self._stream = stream
        self._strict = strict
        self.clock = Clock(stream)
        self.decoded = 0
        self.hidden = 0  # packets that an edit list cuts away
        self.damaged = 0  # packets or frames
        self.first_damage: Fraction | None = None  # seconds since the first frame

    def frames(self) -> Iterator[Decoded]:
        """Every frame, in the order in which the decoder gives them: that of presentation, as a rule."""
        for frame in self._frames():
            self.decoded += 1
            yield Decoded(frame, Target(self.clock.time_of(frame), self.decoded - 1))

    def _frames(self) -> Iterator[VideoFrame]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except FFmpegError as error:
                self._note_damage(error, self.clock.end)
                return
            self.log.note(packet)
            self.hidden += int(packet.is_discard)
            time = self.clock.time_of_packet(packet)
            try:
                frames = packet.decode()
            except FFmpegError as error:
                self._note_damage(error, time)
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self._note_damage(None, time)
                yield frame

    def _note_damage(self, cause: FFmpegError | None, time: Fraction) -> None:
        if isinstance(cause, MemoryError):  # FFmpeg's own, which is both: no fault of the clip
            raise cause
        self.first_damage = time if self.first_damage is None else self.first_damage
        if self._strict:
            raise _damaged(self._path) from cause
        self.damaged += 1

    @property
    def promised(self) -> int | None:
        """Frames that the header promises, without those that an edit list hides; None where it says nothing."""
        return self._stream.frames - self.hidden if self._stream.frames else None

    def warnings(self) -> Iterator[str]:
        """What a person should know of what was decoded."""
        if self.promised is not None and self.decoded != self.promised:
            yield f"{self.decoded} of {self.promised} frames promised"
        if self.damaged:
            yield f"damaged: {self.damaged} packets or frames did not decode cleanly"
        if self.clock.invented:
            rate = f"{float(self.clock.rate):g} frames per second"
            yield f"{self.clock.invented} frames without a presentation time; spaced as at {rate}"
        if self.clock.backward:
            yield f"{self.clock.backward} frames earlier than the one before them; passed over"


class SegmentDecoder:
    """Decodes segments of a plan, one after the other, from an open clip of its own."""

    def __init__(self, path: Path, container: InputContainer, stream: VideoStream, packets: Packets) -> None:
        self._path = path
        self._container = container
        self._stream = stream
        self._packets = packets
        self.decoded = 0

    def frames(self, segment: Segment) -> Iterator[Decoded]:
        """The wanted frames of a segment, in the order of presentation.

        Raises:
            DamagedClipError: the decoder found damage, or not what the plan says.
        """
        missing = dict(segment.targets)
        try:
            for frame in self._decode(segment):
                self.decoded += 1
                target = missing.pop(frame.pts, None) if frame.pts is not None else None
                if frame.is_corrupt:
                    raise _damaged(self._path)
                if target:
                    yield Decoded(frame, target)
        except FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            raise _damaged(self._path) from error
        if missing:
            raise _damaged(self._path)

    def _decode(self, segment: Segment) -> Iterator[VideoFrame]:
        context = self._stream.codec_context
        self._container.seek(int(self._packets.dts[segment.first]), stream=self._stream)  # flushes the decoder too
        for needed, packet in zip(segment.needed, self._from(segment.first), strict=False):
            if needed:
                yield from context.decode(packet)
        yield from context.decode(None)
        context.flush_buffers()

    def _from(self, position: int) -> Iterator[Packet[VideoStream]]:
        """The packets from a position on, as they were when the plan was made."""
        for packet in self._container.demux(self._stream):
            if packet.dts is not None and packet.dts < self._packets.dts[position]:
                continue  # the seek went to an earlier one
            if packet.dts != self._packets.dts[position] or packet.pts != self._packets.pts[position]:
                raise _damaged(self._path)
            yield packet
            position = min(position + 1, len(self._packets.dts) - 1)


def _damaged(path: Path) -> DamagedClipError:
    return DamagedClipError(f"{path}: damaged; delete or re-copy the file")
