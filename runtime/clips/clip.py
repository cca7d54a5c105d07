"""Clips: yields the wanted frames of a video, by presentation time, upright and in RGB. Built on PyAV.

On the PC, run it in a child process (`pipeline.base.child_process`): a damaged file can crash a native decoder.
"""

from __future__ import annotations

import contextlib
import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from runtime.clips import to_rgb
from runtime.clips.clock import FALLBACK_RATE, lasts_longer, warning_of
from runtime.clips.decode_plan import FramePicker, Plan, Segment, Wanted, plan_of, scan_packets
from runtime.clips.decoder import DecodedFrame, SegmentDecoder, WholeDecoder
from runtime.clips.deinterlace import deinterlaced, states_fields
from runtime.clips.demuxer import (
    Bounds,
    DamagedClipError,
    demuxer_of,
    open_container,
    set_threads,
    several_tracks,
    too_long,
)
from runtime.clips.dolby_vision import private_profile
from runtime.clips.packet_stats import PacketLog, PacketStats, packet_stats_of
from runtime.errors import ClipError

_PIXELS_AT_WORK = 2 * 3840 * 2160  # of one clip: each thread has a decoder, which keeps frames of its own in memory

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Frame:
    """One decoded picture of a clip."""

    pixels_hwc: NDArray[np.uint8]  # (height, width, 3), RGB, upright; may be a view of BGR memory
    time_seconds: float  # presentation time since the clip's first frame
    index: int  # position in presentation order, from 0


@dataclass(frozen=True)
class ClipInfo:
    """The properties of a decoded clip."""

    codec: str  # FFmpeg's name: h264, hevc, …
    width: int  # pixels, upright and square
    height: int
    rotation: int  # degrees by which the stored picture was turned, counterclockwise; negative is clockwise
    duration_seconds: float  # from the first frame to the end of the last
    frames_promised: int | None  # by the container, hidden ones included; None where it states no number
    frames_found: int  # that the clip shows: decoded, or counted in its packets where a plan skips some
    frames_decoded: int  # all that were decoded to get the wanted frames
    frames_hidden: int  # stored, but cut away by the clip's edit list
    first_damage_seconds: float | None  # where damage begins, since the first frame; None where none was met
    warnings: tuple[str, ...]


@contextlib.contextmanager
def open_clip(path: Path, bounds: Bounds, *, strict: bool, deinterlace: bool = True) -> Iterator[Clip]:
    """Open a clip for decoding.

    Args:
        path: the file; messages name it as given.
        bounds: larger frames and longer clips are refused.
        strict: True decodes only what the wanted frames need, where the clip allows it, in several threads, and raises
            DamagedClipError at the first damage. False decodes everything in one thread and keeps what decodes: with
            several threads, what a decoder makes of damage would depend on their timing.
        deinterlace: True makes whole pictures of interlaced frames; False leaves them, with a warning.

    Raises:
        ClipError: as `demuxer_of`; or the file has no video, is out of bounds, or has colours that only Dolby Vision
            can show.
        DamagedClipError: the clip cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        yield Clip(path, bounds, stack, strict=strict, deinterlace=deinterlace)


class Clip:
    """An open clip. Ask for its frames once and to the end, then for `info` and `packet_stats`."""

    def __init__(
        self, path: Path, bounds: Bounds, stack: contextlib.ExitStack, *, strict: bool, deinterlace: bool
    ) -> None:
        self._path = path
        self._bounds = bounds
        self._strict = strict
        self._stack = stack
        container, self._stream = self._open(1)
        self._check_stated_length(container)
        self._check_colours(container)
        self._deinterlace = deinterlace
        self._several_tracks = several_tracks(container, self._stream)
        self._log = PacketLog()
        self._packets = scan_packets(container, self._stream, self._log) if strict else None
        self._spare = [(container, self._stream)] if self._packets else []  # opening costs as much as some frames
        self._first_damage = None if strict else self._find_first_damage()
        self._warnings: tuple[str, ...] = ()
        self._decoders: list[WholeDecoder | SegmentDecoder] = []
        self._shape = 0, 0, 0  # width, height, rotation
        self._has_unknown_matrix = False

    def frames(self, wanted: Wanted) -> Iterator[Frame]:
        """Yield the wanted frames in presentation order, no frame twice.

        Raises:
            DamagedClipError: the clip is open as strict and is damaged; or no frame can be decoded.
            ClipError: no frame is wanted, or the clip lasts longer than its bound.
        """
        plan = self._plan(wanted)
        decoded = self._decode_segments(plan, threads=0) if plan else self._decode_all(wanted, threads=0)
        yield from self._results(_map_in_order(decoded, partial(self._convert, work=_own_pixels), threads=1))

    def map_frames(self, wanted: Wanted, work: Callable[[Frame], Result], *, threads: int) -> Iterator[Result]:
        """Apply `work` to the wanted frames in several threads; yield its results in presentation order.

        Args:
            wanted: which frames.
            work: its results should be small, since the results of some seconds of the clip are held in memory.
            threads: how many threads may work at once; their number changes no result.

        Raises:
            ClipError: as `frames`.
        """
        context = self._stream.codec_context
        threads = max(1, min(threads, _PIXELS_AT_WORK // max(1, context.width * context.height)))
        plan = self._plan(wanted)
        if plan and len(plan.segments) >= threads > 1:
            yield from self._results(self._convert_segments(plan, work, threads))
        else:
            decoded = self._decode_segments(plan, threads) if plan else self._decode_all(wanted, threads)
            yield from self._results(_map_in_order(decoded, partial(self._convert, work=work), threads))

    def info(self) -> ClipInfo:
        """The properties of the clip, once its frames were decoded."""
        width, height, rotation = self._shape
        warnings = (*([self._several_tracks] if self._several_tracks else []), *self._warnings)
        if self._n_combed():
            warnings += (f"interlaced: {self._n_combed()} decoded frames show combs where things move{self._advice()}",)
        if self._has_unknown_matrix:
            warnings += ("states a colour matrix that is not known here; colours may be wrong",)
        return ClipInfo(
            codec=self._stream.codec_context.codec.canonical_name,
            width=width,
            height=height,
            rotation=rotation,
            duration_seconds=float(self._end),
            frames_promised=self._n_promised,
            frames_found=self._n_shown,
            frames_decoded=sum(decoder.decoded for decoder in self._decoders),
            frames_hidden=self._n_hidden,
            first_damage_seconds=None if self._first_damage is None else float(self._first_damage),
            warnings=warnings,
        )

    def metadata(self) -> dict[str, str]:
        """What the container says of the recording, such as its time and camera, named as FFmpeg names it."""
        return dict(self._stream.container.metadata)

    def _n_combed(self) -> int:
        """Interlaced frames that were not deinterlaced. A plan leaves out frames that the filter would need."""
        return sum(
            decoder.interlaced
            for decoder in self._decoders
            if isinstance(decoder, SegmentDecoder) or not self._deinterlace
        )

    def _advice(self) -> str:
        return ", as its header does not say" if self._deinterlace else "; extract.deinterlace: auto removes them"

    def packet_stats(self) -> PacketStats:
        """Statistics of the clip's packets, once its frames were decoded."""
        return packet_stats_of(demuxer_of(self._path), self._stream, self._log)

    def _open(self, threads: int) -> tuple[InputContainer, VideoStream]:
        return self._stack.enter_context(open_container(self._path, self._bounds, strict=self._strict, threads=threads))

    def _check_stated_length(self, container: InputContainer) -> None:
        """Refuse a clip whose header states too long a length, unless its packets deny it: a clock may jump."""
        most = self._bounds.max_seconds
        if (container.duration or 0) / av.time_base <= most:
            return
        with open_container(self._path, self._bounds, strict=False, threads=1) as (again, stream):
            if lasts_longer(again, stream, most):
                raise too_long(self._path, self._bounds)

    def _check_colours(self, container: InputContainer) -> None:
        profile = private_profile(self._path, container.format.name)
        if profile is not None:
            raise ClipError(
                f"{self._path}: Dolby Vision profile {profile}, whose colours need a decoder of Dolby Vision;"
                " convert it to HLG, HDR10 or SDR"
            )

    def _plan(self, wanted: Wanted) -> Plan | None:
        """The plan of what to decode, or None where everything must be decoded."""
        if self._packets is None or self._stream.time_base is None:
            return None
        if self._deinterlace and states_fields(self._stream.codec_context.field_order):
            return None  # the filter needs every frame
        plan = plan_of(self._packets, wanted, self._stream.time_base, self._stream.average_rate or FALLBACK_RATE)
        if plan is None:
            return None
        self._n_promised = self._stream.frames or None  # a plan needs so many packets
        self._warnings = (warning_of(plan.breaks),) if plan.breaks else ()
        self._check_length(plan.last)
        self._note_length(plan.n_frames, plan.end, int(plan.packets.hidden.sum()))
        self._check_any_wanted(len(plan.segments))
        return plan

    def _decode_all(self, wanted: Wanted, threads: int) -> Iterator[DecodedFrame]:
        """Decode the clip from end to end; yield the wanted frames."""
        picker = FramePicker(wanted)
        whole = WholeDecoder(self._path, *self._open(threads if self._strict else 1), strict=self._strict)
        self._decoders = [whole]
        self._log = whole.log
        for decoded in deinterlaced(whole.frames()) if self._deinterlace else whole.frames():
            self._check_length(decoded.target.time)
            if picker.takes(decoded.target.time):
                yield decoded
        if not whole.decoded:
            promise = f" ({whole.promised} promised by the header)" if whole.promised else ""
            raise DamagedClipError(
                f"{self._path}: no video frame could be decoded{promise}; delete or re-copy the file"
            )
        self._note_length(whole.decoded, whole.clock.end, whole.hidden)
        self._n_promised = None if whole.promised is None else whole.promised + whole.hidden
        self._note_damage(whole)
        self._check_any_wanted(picker.taken)

    def _decode_segments(self, plan: Plan, threads: int) -> Iterator[DecodedFrame]:
        """Decode the segments of a plan one after the other."""
        decoder = self._segment_decoder(plan, threads)
        for segment in plan.segments:
            yield from decoder.frames(segment)

    def _convert_segments(
        self, plan: Plan, work: Callable[[Frame], Result], threads: int
    ) -> Iterator[_Converted[Result]]:
        """Decode the segments of a plan in parallel, and apply `work` to their frames in the same threads."""
        idle: queue.SimpleQueue[SegmentDecoder] = queue.SimpleQueue()

        def convert(segment: Segment) -> list[_Converted[Result]]:
            try:
                decoder = idle.get_nowait()
            except queue.Empty:  # each thread opens its own, so that they are opened in parallel
                decoder = self._segment_decoder(plan, 1)
            try:
                return [self._convert(decoded, work) for decoded in decoder.frames(segment)]
            finally:
                idle.put(decoder)

        for converted in _map_in_order(plan.segments, convert, threads):
            yield from converted

    def _segment_decoder(self, plan: Plan, threads: int) -> SegmentDecoder:
        try:
            container, stream = self._spare.pop()
            set_threads(stream, threads)
        except IndexError:
            container, stream = self._open(threads)
        decoder = SegmentDecoder(self._path, container, stream, plan.packets)
        self._decoders.append(decoder)
        return decoder

    def _convert(self, decoded: DecodedFrame, work: Callable[[Frame], Result]) -> _Converted[Result]:
        """Turn a decoded frame upright and into RGB, and apply `work` to it."""
        frame, target = decoded.frame, decoded.target
        has_unknown_matrix = not to_rgb.matrix_is_known(frame)
        pixels_hwc = to_rgb.upright_rgb(frame, self._stream.sample_aspect_ratio)
        height, width = pixels_hwc.shape[:2]
        result = work(Frame(pixels_hwc, float(target.time), target.index))
        return _Converted(result, (width, height, frame.rotation), has_unknown_matrix)

    def _results(self, converted: Iterable[_Converted[Result]]) -> Iterator[Result]:
        """Yield the results, and note what `info` reports of their frames."""
        for frame in converted:
            self._shape = frame.shape
            self._has_unknown_matrix |= frame.has_unknown_matrix
            yield frame.result

    def _find_first_damage(self) -> Fraction | None:
        """The time at which a strict decoder stops: a decoder that goes on conceals some damage and reports nothing."""
        with open_container(self._path, self._bounds, strict=True, threads=1) as (container, stream):
            whole = WholeDecoder(self._path, container, stream, strict=True)
            with contextlib.suppress(DamagedClipError):
                for decoded in whole.frames():
                    self._check_length(decoded.target.time)
            return whole.first_damage

    def _note_length(self, n_shown: int, end: Fraction, n_hidden: int) -> None:
        self._n_shown, self._end, self._n_hidden = n_shown, end, n_hidden

    def _note_damage(self, whole: WholeDecoder) -> None:
        times = [time for time in (whole.first_damage, self._first_damage) if time is not None]
        if not times and whole.promised is not None and whole.decoded < whole.promised:
            times = [whole.clock.end]  # most often the file was cut short
        self._first_damage = min(times, default=None)
        first = "" if self._first_damage is None else f"damage begins at {float(self._first_damage):.2f} s"
        self._warnings = (*whole.warnings(), *([first] if first else []))

    def _check_length(self, time: Fraction) -> None:
        if time > self._bounds.max_seconds:
            raise too_long(self._path, self._bounds)

    def _check_any_wanted(self, n_wanted: int) -> None:
        if not n_wanted:
            lasts = f"the clip lasts {float(self._end):.1f} seconds"
            raise ClipError(f"{self._path}: no frame between extract.start_seconds and extract.end_seconds; {lasts}")


@dataclass(frozen=True)
class _Converted(Generic[Result]):
    result: Result
    shape: tuple[int, int, int]  # width, height, rotation
    has_unknown_matrix: bool


def _own_pixels(frame: Frame) -> Frame:
    """The frame with contiguous pixels in RGB order, no view of other memory."""
    return replace(frame, pixels_hwc=np.ascontiguousarray(frame.pixels_hwc))


def _map_in_order(items: Iterable[Item], work: Callable[[Item], Result], threads: int) -> Iterator[Result]:
    """Apply `work` to items in several threads; yield the results in order, with few items taken in advance."""
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
