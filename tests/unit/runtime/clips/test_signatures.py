"""The first bytes say what a recording is, and text or other files are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from runtime.clips.signatures import CLIP_SUFFIXES, HEAD_BYTES, demuxer_for, format_not_read, is_dng
from tests.support.media import OTHER_CONTAINERS, picture, write_clip, write_dng, write_plain

DEMUXERS = {
    ".vob": "mpeg",
    ".mod": "mpeg",
    ".wmv": "asf",
    ".flv": "flv",
    ".ogv": "ogg",
    ".h264": "h264",
    ".h265": "hevc",
}
JPEG_XL = bytes.fromhex("0000000c4a584c200d0a870a")


def head_of(path: Path) -> bytes:
    return path.read_bytes()[:HEAD_BYTES]


@pytest.mark.parametrize("suffix", DEMUXERS)
def test_a_clip_is_known_by_its_content(suffix: str, tmp_path: Path) -> None:
    clip = write_plain(tmp_path / "clip", *OTHER_CONTAINERS[suffix], n_frames=2)
    assert demuxer_for(head_of(clip)) == DEMUXERS[suffix]
    assert format_not_read(head_of(clip)) is None
    assert suffix in CLIP_SUFFIXES


@pytest.mark.parametrize(
    ("suffix", "demuxer"), [(".mp4", "mov"), (".mkv", "matroska"), (".avi", "avi"), (".ts", "mpegts")]
)
def test_the_common_containers_are_known(suffix: str, demuxer: str, tmp_path: Path) -> None:
    assert demuxer_for(head_of(write_clip(tmp_path / f"clip{suffix}", n_frames=2))) == demuxer


@pytest.mark.parametrize(
    ("start", "demuxer"),
    [
        ("00000001 27640028", "h264"),  # parameter set
        ("00000001 0910", "h264"),  # delimiter
        ("000001 0605ff", "h264"),  # supplemental information
        ("00000001 4001", "hevc"),
        ("000001 4601", "hevc"),
        ("00000001 4e01", "hevc"),
        ("00000100 01002020", None),  # an icon
        ("000001b3 04003023", None),  # MPEG video without a container
        ("00000001 00000000", None),
        ("00000000 00000000", None),
        ("0001 0000000b", None),  # a font
        ("01 67640028", None),
        ("0000", None),
        ("00000001", None),
    ],
)
def test_a_raw_stream_begins_with_a_unit_that_streams_begin_with(start: str, demuxer: str | None) -> None:
    assert demuxer_for(bytes.fromhex(start)) == demuxer


@pytest.mark.parametrize("content", [b"", b"Go", b"GIF89a", b"BMW drove by\n", b"OggS", b"FLV file\n", b"{}", b"II*\0"])
def test_other_files_are_no_clips(content: bytes) -> None:
    assert demuxer_for(content) is None
    assert format_not_read(content) is None


@pytest.mark.parametrize(
    ("start", "refusal"),
    [
        (JPEG_XL, "JPEG XL, which is not read here; convert it to JPEG or PNG"),
        (b"\xff\x0a\xfa", "JPEG XL, which is not read here; convert it to JPEG or PNG"),
        (b"\0\0\0\x18ftypcrx ", "camera raw (CR3), which is not read here; convert it to JPEG or PNG"),
        (b"II*\0\x10\0\0\0CR\x02\0", "camera raw (CR2), which is not read here; convert it to JPEG or PNG"),
        (b"\0\0\x01\xb3\x04\0", "raw MPEG video, which is not read here; convert it to MP4"),
    ],
)
def test_a_format_that_is_not_read_is_named(start: bytes, refusal: str) -> None:
    unread = format_not_read(start)
    assert unread is not None
    assert unread.refusal == refusal
    assert demuxer_for(start) is None


def test_mxf_is_named(tmp_path: Path) -> None:
    unread = format_not_read(head_of(write_plain(tmp_path / "clip.mxf", *OTHER_CONTAINERS[".mxf"], n_frames=2)))
    assert unread is not None
    assert unread.name == "MXF"


def test_a_raw_photo_is_told_from_another_tiff(tmp_path: Path) -> None:
    assert is_dng(write_dng(tmp_path / "raw.dng"))
    for order in ("little", "big"):
        Image.fromarray(picture(0)).save(tmp_path / f"{order}.tif", big_endian=order == "big")
        assert not is_dng(tmp_path / f"{order}.tif")
    for content in (b"", b"II", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", b"no picture"):
        (tmp_path / "broken.tif").write_bytes(content)
        assert not is_dng(tmp_path / "broken.tif")
    assert not is_dng(tmp_path)
