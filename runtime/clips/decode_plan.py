"""Plans which packets of a clip a decoder needs to give the wanted frames.

A pass over the packets, without decoding, gives every frame's presentation time, the packets at which a decoder may
start, and the packets that no other frame refers to. Where these facts are missing or contradict one another there is
no plan, and the clip is decoded from end to end.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from numpy.typing import NDArray

from runtime.clips import nal_units
from runtime.clips.clock import Break, least_jump, without_jumps
from runtime.clips.packet_stats import PacketLog

_PLANNABLE = frozenset({"mov", "matroska"})  # containers with an index to seek by


@dataclass(frozen=True)
class Wanted:
    """Which frames of a clip are wanted. Times count from its first frame."""

    frames_per_second: float  # for k = 0, 1, 2 … the first frame at or after start_seconds + k / frames_per_second
    every_n_frames: int | None = None  # instead of frames_per_second: every n-th frame
    start_seconds: float = 0
    end_seconds: float | None = None  # frames at or after it are not wanted
    max_frames: int | None = None  # only the first max_frames of the wanted frames


class FramePicker:
    """Picks the wanted frames of a clip. Ask it about every frame, in presentation order."""

    def __init__(self, wanted: Wanted) -> None:
        self._rate = Fraction(str(wanted.frames_per_second))
        self._step = wanted.every_n_frames
        self._start = Fraction(str(wanted.start_seconds))
        self._end = math.inf if wanted.end_seconds is None else Fraction(str(wanted.end_seconds))
        self._most = math.inf if wanted.max_frames is None else wanted.max_frames
        self._seen = 0  # frames since the start
        self._next_k = 0
        self._latest = Fraction(0)
        self.taken = 0

    def takes(self, time: Fraction) -> bool:
        """Whether the frame at this time, in seconds, is wanted. A frame earlier than the one before it is not."""
        if time < max(self._latest, self._start) or time >= self._end:
            return False
        self._latest = time
        position = self._seen
        self._seen += 1
        if self._step is not None:
            due = position % self._step == 0
        else:
            k = (time - self._start) * self._rate
            due = k >= self._next_k
            self._next_k = math.floor(k) + 1 if due else self._next_k
        due = due and self.taken < self._most
        self.taken += due
        return due


@dataclass(frozen=True)
class Target:
    """The time and the index of a frame."""

    time: Fraction  # seconds since the clip's first frame
    index: int  # in presentation order, from 0


@dataclass(frozen=True)
class Segment:
    """A run of packets for a decoder that starts anew. Positions count packets in the order of the file."""

    first: int  # position of the first packet
    needed: NDArray[np.bool_]  # (n,): per packet from `first` to the last needed one, whether it is needed
    targets: dict[int, Target] = field(default_factory=dict)  # by presentation time in the stream's units


@dataclass(frozen=True)
class Packets:
    """The packets of a clip that can be planned, in the order of the file. The arrays have one entry per packet."""

    pts: NDArray[np.int64]  # in the stream's units, as are `dts` and `last_duration`
    dts: NDArray[np.int64]
    demuxer: str  # FFmpeg's name of the container's format
    last_duration: int  # of the frame that is shown last; 0 where the file does not state it
    hidden: NDArray[np.bool_]  # whether an edit list cuts the packet away
    entries: NDArray[np.int64]  # positions at which a decoder can start; the first is 0
    disposable: NDArray[np.bool_]  # whether no other frame refers to the packet's frame


@dataclass(frozen=True)
class Plan:
    """The packets to decode for the wanted frames of a clip."""

    packets: Packets
    segments: list[Segment]  # in the order of the file, which is presentation order too
    n_frames: int  # that the clip shows
    last: Fraction  # seconds from the first frame to the start of the last
    end: Fraction  # seconds from the first frame to the end of the last
    breaks: list[Break]  # where the clock jumps


def scan_packets(container: InputContainer, stream: VideoStream, log: PacketLog) -> Packets | None:
    """Read every packet of a clip, without decoding.

    Args:
        container: the clip, just opened.
        stream: its video stream.
        log: gets every packet.

    Returns:
        The packets, or None where no plan can be made: for other codecs than H.264 and HEVC, for files without an
        index, and where packets are damaged, missing, without times, or out of order.
    """
    reader = nal_units.reader_for(stream.codec_context) if container.format.name in _PLANNABLE else None
    if reader is None:
        return None
    pts, dts, durations = array("q"), array("q"), array("q")
    hidden, pictures = bytearray(), []
    try:
        for packet in container.demux(stream):
            if not packet.size:  # the last packet, which is empty
                continue
            log.note(packet)
            picture = reader(memoryview(packet))
            if picture is None or packet.pts is None or packet.dts is None or packet.is_corrupt:
                return None
            pts.append(packet.pts)
            dts.append(packet.dts)
            durations.append(packet.duration or 0)
            hidden.append(packet.is_discard)
            pictures.append(picture)
    except FFmpegError:
        return None
    if len(pts) != (stream.frames or len(pts)) or all(hidden):
        return None
    columns = [np.array(column, dtype=np.int64) for column in (pts, dts, durations)]
    return _packets(columns, hidden, pictures, container.format.name)


def _packets(
    columns: list[NDArray[np.int64]], hidden: bytearray, pictures: list[nal_units.CodedPicture], demuxer: str
) -> Packets | None:
    pts, dts, durations = columns
    orderly = (np.diff(dts) > 0).all() and (pts >= dts).all() and len(np.unique(pts)) == len(pts)
    # Where packets bring parameter sets, every packet at which a decoder may start must bring them, and no other.
    consistent = {picture.is_entry for picture in pictures if picture.has_sets} <= {True}
    consistent = consistent and len({picture.has_sets for picture in pictures if picture.is_entry}) == 1
    if not (orderly and consistent and pictures[0].is_entry):
        return None
    highest = max(picture.layer for picture in pictures)
    is_hidden = np.frombuffer(bytes(hidden), dtype=np.bool_)
    last = int(np.where(is_hidden, pts.min() - 1, pts).argmax())
    return Packets(
        pts,
        dts,
        demuxer,
        int(durations[last]),
        is_hidden,
        np.array([position for position, picture in enumerate(pictures) if picture.is_entry], dtype=np.int64),
        # A frame that no frame of its own layer refers to may still be the reference of a higher layer.
        np.array([not picture.is_reference and picture.layer == highest for picture in pictures], dtype=np.bool_),
    )


def plan_of(packets: Packets, wanted: Wanted, unit: Fraction, rate: Fraction) -> Plan | None:
    """Plan what to decode for the wanted frames; None where the segments of the file are not in presentation order.

    Args:
        packets: the packets of the clip.
        wanted: which frames.
        unit: seconds of one step of the packets' times.
        rate: frames per second, for the duration of the last frame where the file does not state it.
    """
    picker, targets, time, index = FramePicker(wanted), {}, Fraction(0), 0
    shown = np.flatnonzero(~packets.hidden)
    ordered = shown[np.argsort(packets.pts[shown])]
    times, breaks = without_jumps(packets.pts[ordered], unit, packets.demuxer, rate)
    for index, (position, ticks) in enumerate(zip(ordered.tolist(), times.tolist(), strict=True)):
        time = ticks * unit
        if picker.takes(time):
            targets[position] = Target(time, index)
    segments = _segments(packets, targets)
    order = [target.index for segment in segments for target in segment.targets.values()]
    if order != sorted(order):
        return None
    duration = packets.last_duration * unit
    if not 0 < duration <= least_jump(packets.demuxer):
        duration = 1 / rate
    return Plan(packets, segments, index + 1, time, time + duration, breaks)


def _segments(packets: Packets, targets: dict[int, Target]) -> list[Segment]:
    """The segments that give the targets, which are keyed by the positions of their packets."""
    by_entry: dict[int, list[int]] = {}
    for position in sorted(targets):
        by_entry.setdefault(_entry_of(packets, position), []).append(position)
    segments = []
    for entry, positions in sorted(by_entry.items()):
        span = slice(entry, positions[-1] + 1)
        # A frame shown before the entry may refer to frames that the decoder has not seen. No frame shown after the
        # entry refers to such a frame.
        needed = ~packets.disposable[span] & (packets.pts[span] >= packets.pts[entry])
        needed[np.array(positions) - entry] = True
        shown = sorted(positions, key=lambda position: targets[position].index)
        segments.append(Segment(entry, needed, {int(packets.pts[position]): targets[position] for position in shown}))
    return segments


def _entry_of(packets: Packets, position: int) -> int:
    """The last entry from which a frame can be decoded: at or before the frame in the file and in presentation."""
    index = int(np.searchsorted(packets.entries, position, side="right")) - 1
    while index > 0 and packets.pts[packets.entries[index]] > packets.pts[position]:
        index -= 1
    return int(packets.entries[index])
