"""What a file holds whatever its name says: asked of files whose suffix is not that of a clip or photo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.media import photos
from runtime.clips.signatures import DNG, HEAD_BYTES, demuxer_for, format_not_read, is_dng
from runtime.system.regular_files import open_regular

_CONTAINERS = {
    "mov": "MP4 or MOV", "matroska": "Matroska or WebM", "avi": "AVI", "mpeg": "MPEG", "mpegts": "MPEG", "asf": "WMV",
    "flv": "FLV", "ogg": "Ogg", "h264": "raw H.264", "hevc": "raw HEVC",
}  # fmt: skip


@dataclass(frozen=True)
class Content:
    """The format of a clip or photo."""

    name: str
    refusal: str = ""  # why it is not read, and what to do; empty where only the suffix keeps it from being read


def recording_content(path: Path) -> Content | None:
    """Return the format of a clip or photo, which may be one that is not read; None for every other file.

    What cannot be opened counts as another file, and so does a pipe, whose reader would wait for its writer.
    """
    if not path.is_file():
        return None
    try:
        with open_regular(path) as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return None
    if b"\0" not in head:  # a text: short signatures such as BM may begin one, and no recording is without zeros
        return None
    photo = photos.signature(head)
    unread = DNG if photo == "TIFF" and is_dng(path) else format_not_read(head)
    if unread:
        return Content(unread.name, unread.refusal)
    name = photo or _CONTAINERS.get(demuxer_for(head) or "")
    return Content(name) if name else None
