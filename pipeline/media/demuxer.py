"""The file of a clip: which demuxer reads it, by its content alone, and whether it is within bounds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from pipeline.base.errors import DataError
from pipeline.media.to_rgb import square_size

SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts",
})  # fmt: skip

_HEAD_BYTES = 400  # enough for two packets of a transport stream
_MOV_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
_MOST_PIXELS = 2**31 - 1  # that FFmpeg can be told


class DamagedClipError(DataError):
    """A clip, or what a strict decode needed of it, is damaged; decoded with `strict=False` some of it may be kept."""


@dataclass(frozen=True)
class Bounds:
    """What is refused, before it is decoded where the header is honest."""

    max_pixels: int  # width times height of a frame
    max_seconds: float  # duration of a clip


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
def opened(path: Path, bounds: Bounds, *, strict: bool, threads: int) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a clip, ready to be demuxed and decoded.

    Args:
        path: the file; messages name it as given.
        bounds: what is beyond them is refused.
        strict: let the decoder stop at the first damage.
        threads: of the decoder; 0 is as many as there are processors.

    Raises:
        DataError: as `demuxer_of`; or the file has no video, or is out of bounds.
        DamagedClipError: it cannot be opened.
    """
    demuxer = demuxer_of(path)
    limit = {"max_pixels": str(min(bounds.max_pixels, _MOST_PIXELS))}
    try:
        # An absolute path, since FFmpeg takes `name:` at the start of a relative one for a protocol.
        options = {"protocol_whitelist": "file"} | limit
        container = av.open(str(path.absolute()), format=demuxer, metadata_errors="ignore", options=options)
    except FFmpegError as error:
        raise DamagedClipError(
            f"{path}: cannot be opened as a video ({error.strerror}); delete or re-copy the file"
        ) from error
    with container:
        stream = _video_stream(path, container)
        _check_bounds(path, container, stream, bounds)
        set_threads(stream, threads)
        stream.codec_context.options = limit | ({"err_detect": "explode"} if strict else {})
        yield container, stream


def set_threads(stream: VideoStream, threads: int) -> None:
    """How many threads the decoder of a stream will have, 0 for as many as there are processors; before it decodes."""
    stream.thread_type = "NONE" if threads == 1 else "AUTO"
    stream.thread_count = threads


def too_long(path: Path, bounds: Bounds) -> DataError:
    """The line for a clip that lasts longer than its bound."""
    most = f"{bounds.max_seconds:g} seconds"
    return DataError(f"{path}: lasts more than {most}; cut it or raise extract.max_clip_seconds")


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:  # the cover of a song
        raise DataError(f"{path}: has no video stream; delete the file or replace it with a clip")
    if stream.codec_context is None:
        raise DataError(f"{path}: no decoder for its video; convert it to H.264 or HEVC")
    return stream


def _check_bounds(path: Path, container: InputContainer, stream: VideoStream, bounds: Bounds) -> None:
    context = stream.codec_context
    width, height = square_size(context.width, context.height, stream.sample_aspect_ratio)
    if max(width * height, context.width * context.height) > bounds.max_pixels:
        most = f"{bounds.max_pixels} pixels (extract.max_megapixels)"
        raise DataError(f"{path}: frames of {width} x {height}; expected at most {most}")
    if container.duration is not None and container.duration / av.time_base > bounds.max_seconds:
        raise too_long(path, bounds)
