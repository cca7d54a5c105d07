"""What a recording is by its first bytes: the one list of formats for the build machine and the device."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from runtime.system.regular_files import open_regular

HEAD_BYTES = 400  # enough for two packets of a transport stream

# .vob and .mod are MPEG, .lrv (GoPro's small copy) and .mp (a motion photo's clip) are MP4.
CLIP_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".lrv", ".mp", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".vob", ".mod",
    ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".ogv", ".h264", ".264", ".h265", ".265", ".hevc",
})  # fmt: skip
RAW_DEMUXERS = frozenset({"h264", "hevc"})  # of streams without a container, which hold no times

_MOV_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
_STARTS = (
    (b"\x1aE\xdf\xa3", "matroska"),
    (b"\x00\x00\x01\xba", "mpeg"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c", "asf"),
    (b"FLV\x01", "flv"),
    (b"OggS\x00", "ogg"),
)
_DNG_VERSION = 0xC612  # TIFF tag
# NAL units that a stream begins with: parameter sets, supplemental information, or a delimiter of pictures.
_H264_STARTS, _HEVC_STARTS = frozenset({6, 7, 8, 9}), frozenset({32, 33, 34, 35, 39})


@dataclass(frozen=True)
class UnreadFormat:
    """A format of recordings that people have, and that nothing here reads."""

    name: str
    convert_to: str  # a format of the same kind that is read

    @property
    def refusal(self) -> str:
        """Why a file of this format is refused, and what to do: the second half of a message."""
        return f"{self.name}, which is not read here; convert it to {self.convert_to}"


_CLIP, _PHOTO = "MP4", "JPEG or PNG"
_NOT_READ = (  # position, bytes, name, what to convert to
    (0, b"\x06\x0e\x2b\x34", "MXF", _CLIP),
    (0, b"\x00\x00\x01\xb3", "raw MPEG video", _CLIP),
    (0, b".RMF\x00", "RealMedia", _CLIP),
    (0, b"YUV4MPEG2 ", "YUV4MPEG", _CLIP),
    (0, b"DKIF\x00", "IVF", _CLIP),
    (4, b"RED1", "RED", _CLIP),
    (4, b"RED2", "RED", _CLIP),
    (0, b"\x1f\x07\x00", "DV", _CLIP),
    (0, b"\xff\x0a", "JPEG XL", _PHOTO),
    (4, b"JXL \r\n\x87\n", "JPEG XL", _PHOTO),
    (0, b"II\xbc\x01", "JPEG XR", _PHOTO),
    (4, b"ftypcrx ", "camera raw (CR3)", _PHOTO),
    (8, b"CR\x02", "camera raw (CR2)", _PHOTO),
    (0, b"FUJIFILMCCD-RAW", "camera raw (RAF)", _PHOTO),
    (0, b"IIU\x00", "camera raw (RW2)", _PHOTO),
    (0, b"IIRO", "camera raw (ORF)", _PHOTO),
    (0, b"IIRS", "camera raw (ORF)", _PHOTO),
)
DNG = UnreadFormat("camera raw (DNG)", _PHOTO)


def demuxer_for(head: bytes) -> str | None:
    """Return FFmpeg's name of the demuxer for a clip that begins with these bytes; None for what is no such clip.

    Args:
        head: the first `HEAD_BYTES` of the file, or all of a smaller one.
    """
    if format_not_read(head):
        return None
    if head[4:8] in _MOV_BOXES:
        return "mov"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    # Sync bytes of a transport stream as it is broadcast, and as camcorders write it (4 bytes of time in front).
    if head[0:189:188] == b"GG" or head[4:197:192] == b"GG":
        return "mpegts"
    return next((name for start, name in _STARTS if head.startswith(start)), None) or _raw_demuxer(head)


def format_not_read(head: bytes) -> UnreadFormat | None:
    """Return the format of a recording that nothing here reads, by its first bytes; None for every other file."""
    matching = ((name, to) for offset, start, name, to in _NOT_READ if head[offset : offset + len(start)] == start)
    return next((UnreadFormat(name, to) for name, to in matching), None)


def is_dng(path: Path) -> bool:
    """Return whether a TIFF file is a camera's raw photo, of which TIFF readers see nothing but a small preview."""
    try:
        with open_regular(path) as file:
            order = {b"II": "<", b"MM": ">"}[file.read(2)]
            _, tags_offset = struct.unpack(f"{order}HI", file.read(6))
            file.seek(tags_offset)
            (n_tags,) = struct.unpack(f"{order}H", file.read(2))
            tags = struct.iter_unpack(f"{order}HHII", file.read(12 * n_tags))
            return any(tag == _DNG_VERSION for tag, *_ in tags)
    except (OSError, KeyError, struct.error):
        return False


def _raw_demuxer(head: bytes) -> str | None:
    """The demuxer of an H.264 or HEVC stream without a container, as the camera of a Raspberry Pi writes it."""
    zeros, one, unit = head[:8].partition(b"\x01")
    if len(zeros) < 2 or zeros.strip(b"\x00") or not one or len(unit) < 2 or unit[0] & 0x80:
        return None
    if unit[1] == 1 and not unit[0] & 1 and unit[0] >> 1 in _HEVC_STARTS:
        return "hevc"
    return "h264" if unit[0] & 0x1F in _H264_STARTS else None
