"""Opens the file of a clip: picks the demuxer by the content alone, and refuses clips that are out of bounds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from runtime.clips.signatures import HEAD_BYTES, RAW_DEMUXERS, demuxer_for, format_not_read
from runtime.clips.to_rgb import square_size
from runtime.errors import ClipError
from runtime.system.regular_files import open_regular

_MOST_PIXELS = 2**31 - 1  # the largest limit that FFmpeg takes


class DamagedClipError(ClipError):
    """A clip, or the part that a strict decode needs, is damaged. With `strict=False` some of it may decode."""


@dataclass(frozen=True)
class Bounds:
    """Limits beyond which a clip is refused: before it is decoded, where the header is honest."""

    max_pixels: int  # width times height of a frame
    max_seconds: float  # duration of a clip
    raw_frames_per_second: float | None = None  # of a stream without a container; None: as it states itself, else 25
    pixels_set_by: str = "extract.max_megapixels"  # what messages name as the origin of max_pixels


def demuxer_of(path: Path) -> str:
    """Return FFmpeg's name of the demuxer for a file.

    The first bytes alone decide, so that a playlist named .mp4 opens no other file.

    Raises:
        ClipError: the file cannot be read, is empty, or holds no clip in a format that is read.
    """
    try:
        with open_regular(path) as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise ClipError(f"{path}: cannot be read ({error.strerror}); expected a video") from error
    if not head:
        raise ClipError(f"{path}: empty file (0 bytes); delete or re-copy it")
    demuxer = demuxer_for(head)
    if demuxer is None:
        raise ClipError(f"{path}: {_why_no_clip(head)}")
    return demuxer


def _why_no_clip(head: bytes) -> str:
    if unread := format_not_read(head):
        return unread.refusal
    if not head.strip(b"\x00"):
        return "begins with nothing but zeros, as after an interrupted copy; delete or re-copy the file"
    formats = "MP4, MOV, Matroska, WebM, AVI, MPEG, WMV, FLV, Ogg or raw H.264 or HEVC"
    return f"its content is not {formats}; convert it to MP4, or remove it"


@contextlib.contextmanager
def open_container(
    path: Path, bounds: Bounds, *, strict: bool, threads: int
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a clip for demuxing and decoding.

    Args:
        path: the file; messages name it as given.
        bounds: larger frames and longer clips are refused.
        strict: the decoder stops at the first damage.
        threads: number of threads of the decoder; 0 is one per processor.

    Raises:
        ClipError: as `demuxer_of`; or the file has no video, or is out of bounds.
        DamagedClipError: the file cannot be opened.
    """
    demuxer = demuxer_of(path)
    limit = {"max_pixels": str(min(bounds.max_pixels, _MOST_PIXELS))}
    container = _open(path, demuxer, limit)
    if demuxer in RAW_DEMUXERS:
        with container:
            rate = bounds.raw_frames_per_second or _stated_rate(container)
        container = _open(path, demuxer, limit | {"framerate": str(Fraction(rate).limit_denominator(1001))})
    with container:
        stream = _video_stream(path, container)
        _check_bounds(path, stream, bounds)
        set_threads(stream, threads)
        stream.codec_context.options = limit | ({"err_detect": "explode"} if strict else {})
        yield container, stream


def _open(path: Path, demuxer: str, options: dict[str, str]) -> InputContainer:
    try:
        # An absolute path, since FFmpeg takes `name:` at the start of a relative one for a protocol.
        options = {"protocol_whitelist": "file"} | options
        return av.open(str(path.absolute()), format=demuxer, metadata_errors="ignore", options=options)
    except FFmpegError as error:
        raise DamagedClipError(
            f"{path}: cannot be opened as a video ({error.strerror}); delete or re-copy the file"
        ) from error


def _stated_rate(container: InputContainer) -> Fraction:
    """The frames per second that the parameter sets of a raw stream state, or 25 where they state none."""
    stream = container.streams.best("video")
    rate = stream.codec_context.framerate if isinstance(stream, VideoStream) and stream.codec_context else None
    return rate if rate and 1 <= rate <= 1000 else Fraction(25)


def set_threads(stream: VideoStream, threads: int) -> None:
    """Set the number of threads of a stream's decoder, 0 for one per processor. Call it before the first decode."""
    stream.thread_type = "NONE" if threads == 1 else "AUTO"
    stream.thread_count = threads


def too_long(path: Path, bounds: Bounds) -> ClipError:
    """The error for a clip that lasts longer than its bound."""
    most = f"{bounds.max_seconds:g} seconds"
    return ClipError(f"{path}: lasts more than {most}; cut it or raise extract.max_clip_seconds")


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    stream = container.streams.best("video")
    if (
        not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic
    ):  # the cover picture of a song
        raise ClipError(f"{path}: has no video stream; delete the file or replace it with a clip")
    if stream.codec_context is None:
        raise ClipError(f"{path}: no decoder for its video; convert it to H.264 or HEVC")
    return stream


def several_tracks(container: InputContainer, stream: VideoStream) -> str:
    """The warning for a clip with several video tracks, cover pictures excepted; empty for one with a single track."""
    tracks = [track for track in container.streams.video if not track.disposition & Disposition.attached_pic]
    if len(tracks) < 2:
        return ""
    number, context = tracks.index(stream) + 1, stream.codec_context
    return f"has {len(tracks)} video tracks; number {number}, of {context.width} x {context.height} pixels, is used"


def _check_bounds(path: Path, stream: VideoStream, bounds: Bounds) -> None:
    context = stream.codec_context
    width, height = square_size(context.width, context.height, stream.sample_aspect_ratio)
    if max(width * height, context.width * context.height) > bounds.max_pixels:
        most = f"{bounds.max_pixels} pixels ({bounds.pixels_set_by})"
        raise ClipError(f"{path}: frames of {width} x {height}; expected at most {most}")
