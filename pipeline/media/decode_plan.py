"""Which frames of a clip are wanted, and which of its packets a decoder needs for them.

A pass over the packets, without decoding, gives every frame's presentation time, where a decoder may start, and which
packets no other frame refers to. Where that does not add up there is no plan, and the clip is decoded from end to end.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.media import nal_units
from pipeline.media.packet_stats import PacketLog

_PLANNABLE = frozenset({"mov", "matroska"})  # those with an index to seek by


@dataclass(frozen=True)
class Wanted:
    """Which frames of a clip are wanted. Times count from its first frame."""

    frames_per_second: float  # for k = 0, 1, 2 … the first frame at or after start_seconds + k / frames_per_second
    every_n_frames: int | None = None  # instead of that, every n-th frame
    start_seconds: float = 0
    end_seconds: float | None = None  # frames at or after it are not wanted
    max_frames: int | None = None  # the first so many


class Choice:
    """Takes or leaves the frames of a clip, asked in the order of presentation."""

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
        """Whether the frame at this time, in seconds, is wanted; one earlier than the frame before it is not."""
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
    """A wanted frame."""

    time: Fraction  # seconds since the clip's first frame
    index: int  # in presentation order, from 0


@dataclass(frozen=True)
class Segment:
    """A run of packets for a decoder that starts afresh. Positions are those of packets in the file's order."""

    first: int
    needed: NDArray[np.bool_]  # per packet from `first` on, up to the last that is needed: whether it is
    targets: dict[int, Target] = field(default_factory=dict)  # by presentation time in the stream's units


@dataclass(frozen=True)
class Packets:
    """The packets of an orderly clip in the order of the file."""

    pts: NDArray[np.int64]  # in the stream's units, as are `dts` and `last_duration`
    dts: NDArray[np.int64]
    last_duration: int  # of the frame that is shown last; 0 where it is not stated
    hidden: NDArray[np.bool_]  # cut away by an edit list
    entries: NDArray[np.int64]  # positions from which a decoder can start; the first is 0
    disposable: NDArray[np.bool_]  # no other frame refers to it

    def times(self, unit: Fraction) -> Iterator[tuple[int, Fraction]]:
        """(position, seconds since the first frame) in the order of presentation, without the hidden ones."""
        shown = np.flatnonzero(~self.hidden)
        ordered = shown[np.argsort(self.pts[shown])]
        first = int(self.pts[ordered[0]])
        return ((int(position), (int(self.pts[position]) - first) * unit) for position in ordered)


@dataclass(frozen=True)
class Plan:
    """What to decode of a clip."""

    packets: Packets
    segments: list[Segment]  # in the order of the file, which is that of presentation too
    n_frames: int  # that the clip shows
    last: Fraction  # seconds from the first frame to the last
    end: Fraction  # to the end of the last


def survey(container: InputContainer, stream: VideoStream, log: PacketLog) -> Packets | None:
    """Read every packet of a clip that was just opened, into the log too; None where they are no ground for a plan.

    That is so for other codecs than H.264 and HEVC, for files without an index, and where packets are damaged, missing,
    without times, or out of order.
    """
    reader = nal_units.reader_for(stream.codec_context) if container.format.name in _PLANNABLE else None
    if reader is None:
        return None
    pts, dts, durations = array("q"), array("q"), array("q")
    hidden, units = bytearray(), []
    try:
        for packet in container.demux(stream):
            if not packet.size:  # the last, which is empty
                continue
            log.note(packet)
            unit = reader(memoryview(packet))
            if unit is None or packet.pts is None or packet.dts is None or packet.is_corrupt:
                return None
            pts.append(packet.pts)
            dts.append(packet.dts)
            durations.append(packet.duration or 0)
            hidden.append(packet.is_discard)
            units.append(unit)
    except FFmpegError:
        return None
    if len(pts) != (stream.frames or len(pts)) or all(hidden):
        return None
    return _packets([np.array(column, dtype=np.int64) for column in (pts, dts, durations)], hidden, units)


def _packets(columns: list[NDArray[np.int64]], hidden: bytearray, units: list[nal_units.Unit]) -> Packets | None:
    pts, dts, durations = columns
    orderly = (np.diff(dts) > 0).all() and (pts >= dts).all() and len(np.unique(pts)) == len(pts)
    # Parameters that come with some packets must come with every packet that a decoder may start from, and no other.
    whole = {unit.is_entry for unit in units if unit.has_sets} <= {True}
    whole = whole and len({unit.has_sets for unit in units if unit.is_entry}) == 1
    if not (orderly and whole and units[0].is_entry):
        return None
    highest = max(unit.layer for unit in units)
    is_hidden = np.frombuffer(bytes(hidden), dtype=np.bool_)
    last = int(np.where(is_hidden, pts.min() - 1, pts).argmax())
    return Packets(
        pts,
        dts,
        int(durations[last]),
        is_hidden,
        np.array([position for position, unit in enumerate(units) if unit.is_entry], dtype=np.int64),
        # What is referred to by no frame of its own layer may still be by one of a higher layer.
        np.array([not unit.is_reference and unit.layer == highest for unit in units], dtype=np.bool_),
    )


def plan_of(packets: Packets, wanted: Wanted, unit: Fraction, rate: Fraction) -> Plan | None:
    """What to decode for the wanted frames; None where the order of the file is not that of presentation.

    Args:
        packets: of the clip.
        wanted: which frames.
        unit: seconds of one step of the packets' times.
        rate: frames per second, for the length of a last frame that does not state it.
    """
    choice, targets, time, index = Choice(wanted), {}, Fraction(0), 0
    for index, (position, time) in enumerate(packets.times(unit)):
        if choice.takes(time):
            targets[position] = Target(time, index)
    found = _segments(packets, targets)
    order = [target.index for segment in found for target in segment.targets.values()]
    if order != sorted(order):
        return None
    return Plan(packets, found, index + 1, time, time + (packets.last_duration * unit or 1 / rate))


def _segments(packets: Packets, targets: dict[int, Target]) -> list[Segment]:
    """What to decode for some frames, given by the positions of their packets."""
    by_entry: dict[int, list[int]] = {}
    for position in sorted(targets):
        by_entry.setdefault(_entry_of(packets, position), []).append(position)
    made = []
    for entry, positions in sorted(by_entry.items()):
        span = slice(entry, positions[-1] + 1)
        # Frames shown before the one that a decoder starts from may refer to what it has not seen; none shown after
        # it refers to them.
        needed = ~packets.disposable[span] & (packets.pts[span] >= packets.pts[entry])
        needed[np.array(positions) - entry] = True
        shown = sorted(positions, key=lambda position: targets[position].index)
        made.append(Segment(entry, needed, {int(packets.pts[position]): targets[position] for position in shown}))
    return made


def _entry_of(packets: Packets, position: int) -> int:
    """The last entry from which the frame can be decoded: not after it in the file, nor in presentation."""
    number = int(np.searchsorted(packets.entries, position, side="right")) - 1
    while number > 0 and packets.pts[packets.entries[number]] > packets.pts[position]:
        number -= 1
    return int(packets.entries[number])
