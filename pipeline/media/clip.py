"""Clips: the frames that are wanted, by presentation time, upright, in RGB. PyAV underneath.

Decoding runs in a child process (`children.run_in_child`): a damaged file can crash a native decoder.
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

import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.base.errors import DataError
from pipeline.media import to_rgb
from pipeline.media.decode_plan import Choice, Plan, Segment, Wanted, plan_of, survey
from pipeline.media.decoder import FALLBACK_RATE, Decoded, SegmentDecoder, WholeDecoder
from pipeline.media.demuxer import Bounds, DamagedClipError, demuxer_of, opened, set_threads, too_long
from pipeline.media.packet_stats import Footage, PacketLog, footage_of

_PIXELS_AT_WORK = 2 * 3840 * 2160  # of one clip: each thread has a decoder, with frames of its own in memory

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
    """What a clip turned out to be."""

    codec: str  # as FFmpeg calls it: h264, hevc, …
    width: int  # pixels, upright and square
    height: int
    rotation: int  # degrees by which the stored picture was turned, counterclockwise; negative is clockwise
    duration_seconds: float  # from the first frame to the end of the last
    frames_promised: int | None  # by the header; None where it says nothing
    frames_found: int  # that the clip shows: decoded, or counted in its packets where a plan spared the others
    frames_decoded: int  # what was decoded for the wanted ones, these included
    frames_hidden: int  # stored, but cut away by the clip's edit list
    first_damage_seconds: float | None  # where damage begins, counted from the first frame; None where none was met
    warnings: tuple[str, ...]


@contextlib.contextmanager
def open_clip(path: Path, bounds: Bounds, *, strict: bool) -> Iterator[Clip]:
    """Open a clip for decoding.

    Args:
        path: the file; messages name it as given.
        bounds: clips and frames beyond them are refused.
        strict: decode only what the wanted frames need where the clip allows it, in several threads, and raise
            DamagedClipError at the first damage. Otherwise decode everything in one thread and keep what decodes: what
            a decoder makes of damage depends on the timing of its threads.

    Raises:
        DataError: as `demuxer_of`; or the file has no video, or is out of bounds.
        DamagedClipError: it cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        yield Clip(path, bounds, stack, strict=strict)


class Clip:
    """An open clip: ask for its frames once and to the end, then for `info`."""

    def __init__(self, path: Path, bounds: Bounds, stack: contextlib.ExitStack, *, strict: bool) -> None:
        self._path = path
        self._bounds = bounds
        self._strict = strict
        self._stack = stack
        container, self._stream = self._open(1)
        self._log = PacketLog()
        self._packets = survey(container, self._stream, self._log) if strict else None
        self._spare = [(container, self._stream)] if self._packets else []  # opening costs as much as some frames
        self._first_damage = None if strict else self._probe()
        self._warnings: tuple[str, ...] = ()
        self._decoders: list[WholeDecoder | SegmentDecoder] = []
        self._shape = 0, 0, 0  # width, height, rotation
        self._strange_matrix = False

    def frames(self, wanted: Wanted) -> Iterator[Frame]:
        """The wanted frames, no frame twice.

        Raises:
            DamagedClipError: damage was met, and the clip is open as strict; or no frame can be decoded.
            DataError: none is wanted, or the clip lasts longer than its bound.
        """
        plan = self._plan(wanted)
        decoded = self._in_turn(plan, threads=0) if plan else self._all(wanted, threads=0)
        yield from self._noted(_in_order(decoded, partial(self._finish, work=_itself), threads=1))

    def each(self, wanted: Wanted, work: Callable[[Frame], Result], *, threads: int) -> Iterator[Result]:
        """What `work` makes of the wanted frames, in the order of presentation; it runs in several threads.

        Args:
            wanted: which frames.
            work: its results should be small, since those of some seconds of the clip are kept.
            threads: how many may be at work; they change no result.

        Raises:
            DataError: as `frames`.
        """
        context = self._stream.codec_context
        threads = max(1, min(threads, _PIXELS_AT_WORK // max(1, context.width * context.height)))
        plan = self._plan(wanted)
        if plan and len(plan.segments) >= threads > 1:
            yield from self._noted(self._side_by_side(plan, work, threads))
        else:
            decoded = self._in_turn(plan, threads) if plan else self._all(wanted, threads)
            yield from self._noted(_in_order(decoded, partial(self._finish, work=work), threads))

    def info(self) -> ClipInfo:
        """What the clip turned out to be."""
        width, height, rotation = self._shape
        warnings = self._warnings
        if self._strange_matrix:
            warnings += ("states a colour matrix that is not known here; colours may be wrong",)
        return ClipInfo(
            codec=self._stream.codec_context.codec.canonical_name,
            width=width,
            height=height,
            rotation=rotation,
            duration_seconds=float(self._end),
            frames_promised=self._stream.frames or None,
            frames_found=self._found,
            frames_decoded=sum(decoder.decoded for decoder in self._decoders),
            frames_hidden=self._hidden,
            first_damage_seconds=None if self._first_damage is None else float(self._first_damage),
            warnings=warnings,
        )

    def footage(self) -> Footage:
        """What the packets of the clip say of it; after its frames were asked for."""
        return footage_of(demuxer_of(self._path), self._stream, self._log)

    def _open(self, threads: int) -> tuple[InputContainer, VideoStream]:
        return self._stack.enter_context(opened(self._path, self._bounds, strict=self._strict, threads=threads))

    def _plan(self, wanted: Wanted) -> Plan | None:
        """What to decode; None where that is everything."""
        if self._packets is None or self._stream.time_base is None:
            return None
        plan = plan_of(self._packets, wanted, self._stream.time_base, self._stream.average_rate or FALLBACK_RATE)
        if plan is None:
            return None
        self._check_length(plan.last)
        self._note(plan.n_frames, plan.end, int(plan.packets.hidden.sum()))
        self._check_taken(len(plan.segments))
        return plan

    def _all(self, wanted: Wanted, threads: int) -> Iterator[Decoded]:
        choice = Choice(wanted)
        whole = WholeDecoder(self._path, *self._open(threads if self._strict else 1), strict=self._strict)
        self._decoders = [whole]
        self._log = whole.log
        for decoded in whole.frames():
            self._check_length(decoded.target.time)
            if choice.takes(decoded.target.time):
                yield decoded
        if not whole.decoded:
            promise = f" ({self._stream.frames} promised by the header)" if self._stream.frames else ""
            raise DamagedClipError(
                f"{self._path}: no video frame could be decoded{promise}; delete or re-copy the file"
            )
        self._note(whole.decoded, whole.clock.end, whole.hidden)
        self._note_damage(whole)
        self._check_taken(choice.taken)

    def _note(self, found: int, end: Fraction, hidden: int) -> None:
        self._found, self._end, self._hidden = found, end, hidden

    def _note_damage(self, whole: WholeDecoder) -> None:
        found = [time for time in (whole.first_damage, self._first_damage) if time is not None]
        if not found and whole.promised is not None and whole.decoded < whole.promised:
            found = [whole.clock.end]  # cut short, as a rule
        self._first_damage = min(found, default=None)
        first = "" if self._first_damage is None else f"damage begins at {float(self._first_damage):.2f} s"
        self._warnings = (*whole.warnings(), *([first] if first else []))

    def _probe(self) -> Fraction | None:
        """Where a decoder that stops at damage stops; one that goes on hides some of it and says nothing."""
        with opened(self._path, self._bounds, strict=True, threads=1) as (container, stream):
            whole = WholeDecoder(self._path, container, stream, strict=True)
            with contextlib.suppress(DamagedClipError):
                for decoded in whole.frames():
                    self._check_length(decoded.target.time)
            return whole.first_damage

    def _in_turn(self, plan: Plan, threads: int) -> Iterator[Decoded]:
        decoder = self._segment_decoder(plan, threads)
        for segment in plan.segments:
            yield from decoder.frames(segment)

    def _side_by_side(self, plan: Plan, work: Callable[[Frame], Result], threads: int) -> Iterator[_Finished[Result]]:
        idle: queue.SimpleQueue[SegmentDecoder] = queue.SimpleQueue()

        def decode(segment: Segment) -> list[_Finished[Result]]:
            try:
                decoder = idle.get_nowait()
            except queue.Empty:  # opened where it is used, so that they are opened side by side
                decoder = self._segment_decoder(plan, 1)
            try:
                return [self._finish(decoded, work) for decoded in decoder.frames(segment)]
            finally:
                idle.put(decoder)

        for finished in _in_order(plan.segments, decode, threads):
            yield from finished

    def _segment_decoder(self, plan: Plan, threads: int) -> SegmentDecoder:
        try:
            container, stream = self._spare.pop()
            set_threads(stream, threads)
        except IndexError:
            container, stream = self._open(threads)
        decoder = SegmentDecoder(self._path, container, stream, plan.packets)
        self._decoders.append(decoder)
        return decoder

    def _finish(self, decoded: Decoded, work: Callable[[Frame], Result]) -> _Finished[Result]:
        frame, target = decoded.frame, decoded.target
        strange = not to_rgb.matrix_is_known(frame)
        pixels_hwc = to_rgb.upright_rgb(frame, self._stream.sample_aspect_ratio)
        height, width = pixels_hwc.shape[:2]
        result = work(Frame(pixels_hwc, float(target.time), target.index))
        return _Finished(result, (width, height, frame.rotation), strange)

    def _noted(self, finished: Iterable[_Finished[Result]]) -> Iterator[Result]:
        for one in finished:
            self._shape = one.shape
            self._strange_matrix |= one.strange_matrix
            yield one.result

    def _check_length(self, time: Fraction) -> None:
        if time > self._bounds.max_seconds:
            raise too_long(self._path, self._bounds)

    def _check_taken(self, n_taken: int) -> None:
        if not n_taken:
            lasts = f"the clip lasts {float(self._end):.1f} seconds"
            raise DataError(f"{self._path}: no frame between extract.start_seconds and extract.end_seconds; {lasts}")


@dataclass(frozen=True)
class _Finished(Generic[Result]):
    result: Result
    shape: tuple[int, int, int]  # width, height, rotation
    strange_matrix: bool


def _itself(frame: Frame) -> Frame:
    return replace(frame, pixels_hwc=np.ascontiguousarray(frame.pixels_hwc))


def _in_order(items: Iterable[Item], work: Callable[[Item], Result], threads: int) -> Iterator[Result]:
    """`work` done in several threads, results in the order of items; few items are taken ahead of their turn."""
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
