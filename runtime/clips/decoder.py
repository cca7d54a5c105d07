"""Decoders: of a whole clip, or of the segments of a plan. They give exact times and report damage."""

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

from runtime.clips.decode_plan import Packets, Segment, Target
from runtime.clips.demuxer import DamagedClipError
from runtime.clips.packet_stats import PacketLog
from runtime.signatures import RAW_DEMUXERS

FALLBACK_RATE = Fraction(25)  # frames per second, where a clip states neither times nor a rate


@dataclass(frozen=True)
class DecodedFrame:
    """A frame as the decoder gave it, with its time and index."""

    frame: VideoFrame
    target: Target


class Clock:
    """Exact presentation times since the first frame. A frame without a time starts where the one before it ends."""

    def __init__(self, stream: VideoStream) -> None:
        self._unit = stream.time_base or Fraction(1, 1000)
        self.rate = stream.average_rate or FALLBACK_RATE
        self._start: Fraction | None = None
        self._first: Fraction | None = None  # time of the first packet: times start there until a frame comes
        self._latest = Fraction(0)
        self.end = Fraction(0)
        self.n_without_time = 0  # frames
        self.n_backward = 0  # frames earlier than the one before them

    def time_of_packet(self, packet: Packet[VideoStream]) -> Fraction:
        """The time of a packet's frame, in seconds; for a packet without a time, the end of the frames so far."""
        if packet.pts is None:
            return self.end
        stated = packet.pts * self._unit
        self._first = stated if self._first is None else self._first
        return max(Fraction(0), stated - (self._first if self._start is None else self._start))

    def time_of(self, frame: VideoFrame) -> Fraction:
        """The time of a frame, in seconds. Frames come in the decoder's order."""
        if frame.pts is None:
            self.n_without_time += 1
            time = self.end
        else:
            stated = frame.pts * self._unit
            self._start = stated - self.end if self._start is None else self._start
            time = stated - self._start
        self.n_backward += int(time < self._latest)
        self._latest = max(self._latest, time)
        self.end = max(self.end, time + (frame.duration * self._unit or 1 / self.rate))
        return time


class WholeDecoder:
    """Decodes every frame of a clip, and counts frames and damage."""

    def __init__(self, path: Path, container: InputContainer, stream: VideoStream, *, strict: bool) -> None:
        self.log = PacketLog()
        self._path = path
        self._container = container
        self._stream = stream
        self._strict = strict
        self._is_raw = container.format.name in RAW_DEMUXERS
        self.clock = Clock(stream)
        self.decoded = 0  # frames
        self.hidden = 0  # packets that an edit list cuts away
        self.damaged = 0  # packets or frames
        self.first_damage: Fraction | None = None  # seconds since the first frame

    def frames(self) -> Iterator[DecodedFrame]:
        """Yield every frame in the decoder's order, which is presentation order in an undamaged clip.

        Raises:
            DamagedClipError: the decoder is strict and met damage.
        """
        for frame in self._frames():
            self.decoded += 1
            yield DecodedFrame(frame, Target(self.clock.time_of(frame), self.decoded - 1))

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
                if self._is_raw:
                    frame.duration = 0  # what the stream states; the rate of the demuxer holds, which a person may set
                yield frame

    def _note_damage(self, cause: FFmpegError | None, time: Fraction) -> None:
        if isinstance(cause, MemoryError):  # FFmpeg's own error, which is a MemoryError too: no fault of the clip
            raise cause
        self.first_damage = time if self.first_damage is None else self.first_damage
        if self._strict:
            raise _damaged(self._path) from cause
        self.damaged += 1

    @property
    def promised(self) -> int | None:
        """Frames that the header promises, without those that an edit list hides; None where it states no number."""
        return self._stream.frames - self.hidden if self._stream.frames else None

    def warnings(self) -> Iterator[str]:
        """Yield the warnings about what was decoded."""
        if self.promised is not None and self.decoded != self.promised:
            yield f"{self.decoded} of {self.promised} frames promised"
        if self.damaged:
            yield f"damaged: {self.damaged} packets or frames did not decode cleanly"
        if self.clock.n_without_time:
            rate = f"{float(self.clock.rate):g} frames per second"
            hint = " (extract.raw_frames_per_second sets another rate)" if self._is_raw else ""
            yield f"{self.clock.n_without_time} frames without a presentation time; spaced as at {rate}{hint}"
        if self.clock.n_backward:
            yield f"{self.clock.n_backward} frames earlier than the one before them; passed over"


class SegmentDecoder:
    """Decodes the segments of a plan, one after the other. It needs an open container of its own."""

    def __init__(self, path: Path, container: InputContainer, stream: VideoStream, packets: Packets) -> None:
        self._path = path
        self._container = container
        self._stream = stream
        self._packets = packets
        self.decoded = 0

    def frames(self, segment: Segment) -> Iterator[DecodedFrame]:
        """Yield the wanted frames of a segment in presentation order.

        Raises:
            DamagedClipError: the decoder met damage, or a wanted frame did not come out.
        """
        missing = dict(segment.targets)
        try:
            for frame in self._decode(segment):
                self.decoded += 1
                target = missing.pop(frame.pts, None) if frame.pts is not None else None
                if frame.is_corrupt:
                    raise _damaged(self._path)
                if target:
                    yield DecodedFrame(frame, target)
        except FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            raise _damaged(self._path) from error
        if missing:
            raise _damaged(self._path)

    def _decode(self, segment: Segment) -> Iterator[VideoFrame]:
        context = self._stream.codec_context
        self._container.seek(int(self._packets.dts[segment.first]), stream=self._stream)  # flushes the decoder too
        for needed, packet in zip(segment.needed, self._packets_from(segment.first), strict=False):
            if needed:
                yield from context.decode(packet)
        yield from context.decode(None)
        context.flush_buffers()

    def _packets_from(self, position: int) -> Iterator[Packet[VideoStream]]:
        """Yield the packets from a position on, and check that they are those of the plan."""
        for packet in self._container.demux(self._stream):
            if packet.dts is not None and packet.dts < self._packets.dts[position]:
                continue  # the seek went to an earlier packet
            if packet.dts != self._packets.dts[position] or packet.pts != self._packets.pts[position]:
                raise _damaged(self._path)
            yield packet
            position = min(position + 1, len(self._packets.dts) - 1)


def _damaged(path: Path) -> DamagedClipError:
    return DamagedClipError(f"{path}: damaged; delete or re-copy the file")
