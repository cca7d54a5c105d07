"""Clips: the frames that are wanted, by presentation time, upright, in RGB. PyAV underneath.

Decoding runs in a child process (`children.run_in_child`): a damaged file can crash a native decoder.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.errors import DataError

SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts",
})  # fmt: skip

_HEAD_BYTES = 400  # enough for two packets of a transport stream
_MOV_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
_MOST_PIXELS = 2**31 - 1  # that FFmpeg can be told
_FALLBACK_RATE = Fraction(25)  # frames per second, where a clip states neither times nor a rate


@dataclass(frozen=True)
class Frame:
    """One decoded picture of a clip."""

    pixels_hwc: NDArray[np.uint8]  # (height, width, 3), RGB, upright
    time_seconds: float  # presentation time since the clip's first frame
    index: int  # position in presentation order, from 0


@dataclass(frozen=True)
class Bounds:
    """What is refused, before it is decoded where the header is honest."""

    max_pixels: int  # width times height of a frame
    max_seconds: float  # duration of a clip


@dataclass(frozen=True)
class ClipInfo:
    """What a clip turned out to be once all of it was decoded."""

    codec: str  # as FFmpeg calls it: h264, hevc, …
    width: int  # pixels, upright
    height: int
    rotation: int  # degrees by which the stored picture was turned, counterclockwise; negative is clockwise
    duration_seconds: float  # from the first frame to the end of the last
    frames_promised: int | None  # by the header; None where it says nothing
    frames_decoded: int
    frames_hidden: int  # stored, but cut away by the clip's edit list
    warnings: tuple[str, ...]


class DamagedClipError(DataError):
    """A strict decode met damage; decode again with `strict=False` to keep what can be kept."""


def demuxer_of(path: Path) -> str:
    """FFmpeg's name of the demuxer for a file, from its first bytes alone, so that a playlist named .mp4 opens nothing.

    Raises:
        DataError: the file cannot be read, is empty, or is none of MP4/MOV, Matroska/WebM, AVI and MPEG.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected a video") from error
    if not head:
        raise DataError(f"{path}: empty file (0 bytes); delete or re-copy it")
    demuxer = _demuxer_for(head)
    if demuxer is None:
        raise DataError(f"{path}: its content is not MP4, MOV, Matroska, WebM, AVI or MPEG; delete or re-copy the file")
    return demuxer


def _demuxer_for(head: bytes) -> str | None:
    if head[4:8] in _MOV_BOXES:
        return "mov"
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "matroska"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    if head.startswith(b"\x00\x00\x01\xba"):
        return "mpeg"
    # Sync bytes of a transport stream as it is broadcast, and as camcorders write it (4 bytes of time in front).
    if head[0:189:188] == b"GG" or head[4:197:192] == b"GG":
        return "mpegts"
    return None


@contextlib.contextmanager
def open_clip(path: Path, bounds: Bounds, *, strict: bool) -> Iterator[Clip]:
    """Open a clip for decoding.

    Args:
        path: the file; messages name it as given.
        bounds: clips and frames beyond them are refused.
        strict: decode in several threads, and raise DamagedClipError at the first damage. Otherwise decode in one
            thread and keep what decodes: what a decoder makes of damage depends on the timing of its threads.

    Raises:
        DataError: as `demuxer_of`; or the file cannot be opened, has no video, or is out of bounds.
    """
    demuxer = demuxer_of(path)
    limit = {"max_pixels": str(min(bounds.max_pixels, _MOST_PIXELS))}
    try:
        # An absolute path, since FFmpeg takes `name:` at the start of a relative one for a protocol.
        options = {"protocol_whitelist": "file"} | limit
        container = av.open(str(path.absolute()), format=demuxer, metadata_errors="ignore", options=options)
    except FFmpegError as error:
        raise DataError(
            f"{path}: cannot be opened as a video ({error.strerror}); delete or re-copy the file"
        ) from error
    with container:
        stream = _video_stream(path, container)
        _check_bounds(path, container, stream, bounds)
        stream.thread_type = "AUTO" if strict else "NONE"
        stream.codec_context.options = limit | ({"err_detect": "explode"} if strict else {})
        yield Clip(path, container, stream, bounds.max_seconds, strict=strict)


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:  # the cover of a song
        raise DataError(f"{path}: has no video stream; delete the file or replace it with a clip")
    if stream.codec_context is None:
        raise DataError(f"{path}: no decoder for its video; convert it to H.264 or HEVC")
    return stream


def _check_bounds(path: Path, container: InputContainer, stream: VideoStream, bounds: Bounds) -> None:
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > bounds.max_pixels:
        most = f"{bounds.max_pixels} pixels (extract.max_megapixels)"
        raise DataError(f"{path}: frames of {width} x {height}; expected at most {most}")
    if container.duration is not None and container.duration / av.time_base > bounds.max_seconds:
        raise _too_long(path, bounds.max_seconds)


def _too_long(path: Path, max_seconds: float) -> DataError:
    return DataError(f"{path}: lasts more than {max_seconds:g} seconds; cut it or raise extract.max_clip_seconds")


class Clip:
    """An open clip: iterate over `frames` once and to the end, then ask for `info`."""

    def __init__(
        self, path: Path, container: InputContainer, stream: VideoStream, max_seconds: float, *, strict: bool
    ) -> None:
        self._path = path
        self._container = container
        self._stream = stream
        self._max_seconds = max_seconds
        self._strict = strict
        self._clock = _Clock(stream)
        self._decoded = 0
        self._hidden = 0
        self._damaged = 0
        self._rotation = 0
        self._height, self._width = 0, 0

    def frames(self, frames_per_second: float) -> Iterator[Frame]:
        """For k = 0, 1, 2 … the first frame at or after k / `frames_per_second` seconds; no frame twice.

        Raises:
            DamagedClipError: damage was met, and the clip is open as strict.
            DataError: no frame can be decoded, or the clip lasts longer than its bound.
        """
        rate = Fraction(str(frames_per_second))
        next_wanted = 0  # k
        for index, frame in enumerate(self._decode()):
            self._decoded = index + 1
            time = self._clock.time_of(frame)
            if time > self._max_seconds:
                raise _too_long(self._path, self._max_seconds)
            if time * rate >= next_wanted:
                next_wanted = math.floor(time * rate) + 1
                pixels_hwc = _upright(frame)
                self._height, self._width = pixels_hwc.shape[:2]
                self._rotation = frame.rotation
                yield Frame(pixels_hwc, float(time), index)
        if not self._decoded:
            promise = f" ({self._stream.frames} promised by the header)" if self._stream.frames else ""
            raise DataError(f"{self._path}: no video frame could be decoded{promise}; delete or re-copy the file")

    def info(self) -> ClipInfo:
        """What was decoded."""
        return ClipInfo(
            codec=self._stream.codec_context.codec.canonical_name,
            width=self._width,
            height=self._height,
            rotation=self._rotation,
            duration_seconds=float(self._clock.end),
            frames_promised=self._stream.frames or None,
            frames_decoded=self._decoded,
            frames_hidden=self._hidden,
            warnings=tuple(self._warnings()),
        )

    def _decode(self) -> Iterator[VideoFrame]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except FFmpegError as error:
                self._note_damage(error)
                return
            self._hidden += int(packet.is_discard)
            try:
                frames = packet.decode()
            except FFmpegError as error:
                self._note_damage(error)
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self._note_damage(None)
                yield frame

    def _note_damage(self, cause: FFmpegError | None) -> None:
        if self._strict:
            raise DamagedClipError(f"{self._path}: damaged; delete or re-copy the file") from cause
        self._damaged += 1

    def _warnings(self) -> Iterator[str]:
        expected = self._stream.frames - self._hidden if self._stream.frames else self._decoded
        if self._decoded != expected:
            yield f"{self._decoded} of {expected} frames promised"
        if self._damaged:
            yield f"damaged: {self._damaged} packets or frames did not decode cleanly"
        if self._clock.invented:
            rate = f"{float(self._clock.rate):g} frames per second"
            yield f"{self._clock.invented} frames without a presentation time; spaced as at {rate}"
        if self._clock.backward:
            yield f"{self._clock.backward} frames earlier than the one before them; passed over"


class _Clock:
    """Presentation times since the first frame, exact; where a frame has none, the end of the one before it."""

    def __init__(self, stream: VideoStream) -> None:
        self._unit = stream.time_base or Fraction(1, 1000)
        self.rate = stream.average_rate or _FALLBACK_RATE
        self._start: Fraction | None = None
        self._latest = Fraction(0)
        self.end = Fraction(0)
        self.invented = 0
        self.backward = 0

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


def _upright(frame: VideoFrame) -> NDArray[np.uint8]:
    """The picture as RGB, turned and mirrored as the clip's display matrix says, to the nearest quarter turn."""
    # The frame's own matrix (BT.601, BT.709, …) and range are swscale's input; where it states none, BT.601.
    pixels_hwc = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
    x_from_x, y_from_x, x_from_y, y_from_y = _display_matrix(frame)
    if abs(y_from_x) > abs(x_from_x):
        pixels_hwc = pixels_hwc.transpose(1, 0, 2)
        mirror_x, mirror_y = x_from_y < 0, y_from_x < 0
    else:
        mirror_x, mirror_y = x_from_x < 0, y_from_y < 0
    return np.ascontiguousarray(pixels_hwc[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1])


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """The part that turns and mirrors: x' = a x + c y, y' = b x + d y as (a, b, c, d), in units of 1/65536."""
    side_data: Mapping[str, Any] = cast("Any", frame.side_data)  # PyAV declares another type
    if "DISPLAYMATRIX" not in side_data:
        return 65536, 0, 0, 65536
    a, b, _, c, d = (int(number) for number in np.frombuffer(side_data["DISPLAYMATRIX"], dtype=np.int32)[:5])
    return a, b, c, d
