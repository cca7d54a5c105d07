"""Decoders: of a whole clip, or of the segments of a plan. They give exact times and report damage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from runtime.clips.clock import Clock, warning_of
from runtime.clips.decode_plan import Packets, Segment, Target
from runtime.clips.demuxer import DamagedClipError
from runtime.clips.frame_count import count_frames
from runtime.clips.packet_stats import PacketLog
from runtime.clips.signatures import RAW_DEMUXERS

Watch = Callable[[VideoFrame, float], None]  # sees a decoded frame and its seconds since the clip's first frame


@dataclass(frozen=True)
class DecodedFrame:
    """A frame as the decoder gave it, with its time and index."""

    frame: VideoFrame
    target: Target


class WholeDecoder:
    """Decodes every frame of a clip, and counts frames and damage."""

    def __init__(self, path: Path, container: InputContainer, stream: VideoStream, *, strict: bool) -> None:
        self.log = PacketLog()
        self._path = path
        self._container = container
        self._stream = stream
        self._strict = strict
        self._is_raw = container.format.name in RAW_DEMUXERS
        self.clock = Clock(stream, container.format.name)
        self._count = count_frames(path, container, stream)
        self.decoded = 0  # frames
        self.interlaced = 0  # frames
        self.hidden = 0  # packets that an edit list cuts away
        self.damaged = 0  # packets or frames
        self.first_damage: Fraction | None = None  # seconds since the first frame

    def frames(self) -> Iterator[DecodedFrame]:
        """Yield every frame in the decoder's order, which is presentation order in an undamaged clip.

        Raises:
            DamagedClipError: the decoder is strict and met damage.
        """
        waiting = None
        for frame in self._frames():
            if waiting is not None:
                yield self._timed(waiting, frame)
            waiting = frame
        if waiting is not None:
            yield self._timed(waiting, None)

    def _timed(self, frame: VideoFrame, following: VideoFrame | None) -> DecodedFrame:
        self.decoded += 1
        self.interlaced += frame.interlaced_frame
        return DecodedFrame(frame, Target(self.clock.time_of(frame, following), self.decoded - 1))

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
        """Frames that the container promises to show; None where it states no number."""
        if self._count is None:
            return None
        # Where the index does not say which frames an edit list hides, their packets do.
        return self._count.shown if self._count.hidden else max(0, self._count.stored - self.hidden)

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
        if self.clock.n_standing:
            rate = f"{float(1 / self.clock.spacing):g} frames per second"
            yield f"{self.clock.n_standing} frames with the time of the one before them; spaced as at {rate}"
        if warning_of(self.clock.breaks):
            yield warning_of(self.clock.breaks)
        if self.clock.n_backward:
            yield f"{self.clock.n_backward} frames earlier than the one before them; passed over"


class SegmentDecoder:
    """Decodes the segments of a plan, one after the other. It needs an open container of its own."""

    def __init__(
        self, path: Path, container: InputContainer, stream: VideoStream, packets: Packets, watch: Watch | None = None
    ) -> None:
        self._watch = watch
        self._path = path
        self._container = container
        self._stream = stream
        self._packets = packets
        self.decoded = 0
        self.interlaced = 0

    def frames(self, segment: Segment) -> Iterator[DecodedFrame]:
        """Yield the wanted frames of a segment in presentation order.

        Raises:
            DamagedClipError: the decoder met damage, or a wanted frame did not come out.
        """
        missing = dict(segment.targets)
        reference = next(iter(segment.targets.items()), None)
        try:
            for frame in self._decode(segment):
                self.decoded += 1
                self.interlaced += frame.interlaced_frame
                target = missing.pop(frame.pts, None) if frame.pts is not None else None
                if frame.is_corrupt:
                    raise _damaged(self._path)
                if self._watch is not None and reference is not None and frame.pts is not None:
                    pts, known = reference
                    self._watch(frame, float(known.time + (frame.pts - pts) * (self._stream.time_base or 0)))
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
