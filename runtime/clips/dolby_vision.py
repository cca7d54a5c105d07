"""Finds the Dolby Vision profile of a clip. FFmpeg decodes some profiles into colours that mean nothing."""

from __future__ import annotations

import re
from pathlib import Path

from runtime.system.regular_files import open_regular

_BOX = re.compile(rb"\x00\x00\x00.dv[cvw]C(.{5})", re.DOTALL)  # MP4: length, name, and the record
_ELEMENT = re.compile(rb"\x41\xe7\x84dv[cvw]C\x41\xed.(.{5})", re.DOTALL)  # Matroska: the name, and the record
_MOST_BYTES = 64 * 2**20  # of a header
_MATROSKA_BYTES = 2**20  # from the start, where the tracks are described


def private_profile(path: Path, demuxer: str) -> int | None:
    """Return the Dolby Vision profile of a clip that shows wrong colours on a screen without Dolby Vision.

    That is profile 5, and profiles 8 and 10 without a base layer in HDR10, HLG or SDR. None for all other clips.

    Args:
        path: the file.
        demuxer: FFmpeg's name of the container's format; other containers than MP4 and Matroska are not looked into.
    """
    if demuxer == "mov":
        match = _BOX.search(_movie_header(path))
    elif demuxer == "matroska":
        with open_regular(path) as file:
            match = _ELEMENT.search(file.read(_MATROSKA_BYTES))
    else:
        return None
    if match is None:
        return None
    record = match[1]
    profile, compatibility = record[2] >> 1, record[4] >> 4
    return profile if profile == 5 or (profile in (8, 10) and not compatibility) else None


def _movie_header(path: Path) -> bytes:
    """The content of the box `moov`; empty where there is none."""
    start, size = 0, path.stat().st_size
    with open_regular(path) as file:
        while start + 8 <= size:
            file.seek(start)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 1:  # the length follows in eight bytes
                length = int.from_bytes(head[8:], "big")
            if head[4:8] == b"moov":
                file.seek(start)
                return file.read(min(length or size, _MOST_BYTES))
            if length < 8:
                break
            start += length
    return b""
