"""Dolby Vision that no other decoder shows rightly is refused, whatever the container."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clips import decode_clip, refusal_of_clip
from tests.support.media import write_coded

HEVC = {"x265-params": "log-level=error"}


def record(profile: int, compatibility: int) -> bytes:
    """A configuration record of 24 bytes."""
    return bytes([1, 0, profile << 1, 3 << 3 | 5, compatibility << 4]) + bytes(19)


def state_in_mp4(path: Path, profile: int, compatibility: int) -> Path:
    """Add the box dvcC to the entry of the track; the header lies at the end, so that no offset changes."""
    data = bytearray(path.read_bytes())
    box = (32).to_bytes(4, "big") + b"dvcC" + record(profile, compatibility)
    config = data.index(b"hvcC") - 4
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"hev1"):
        at = data.index(name) - 4
        data[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") + len(box)).to_bytes(4, "big")
    data[config:config] = box
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("profile", "compatibility", "is_refused"),
    [(5, 0, True), (8, 0, True), (8, 4, False), (8, 1, False), (7, 6, False)],
)
def test_only_profiles_with_colours_of_their_own_are_refused(
    profile: int, compatibility: int, is_refused: bool, tmp_path: Path
) -> None:
    clip = state_in_mp4(
        write_coded(tmp_path / "clip.mp4", "libx265", HEVC, times_ms=[0, 40, 80]), profile, compatibility
    )
    if is_refused:
        expected = f"Dolby Vision profile {profile}, whose colours need a decoder of Dolby Vision; convert it to HLG"
        assert refusal_of_clip(clip).startswith(expected)
        assert refusal_of_clip(clip, strict=False).startswith(expected)
    else:
        assert len(decode_clip(clip)[0]) == 3


def test_in_matroska_the_profile_is_found_too(tmp_path: Path) -> None:
    clip = write_coded(tmp_path / "clip.mkv", "libx265", HEVC, times_ms=[0, 40, 80])
    assert len(decode_clip(clip)[0]) == 3
    data = clip.read_bytes()
    # A block addition mapping in the padding that the muxer leaves in the header.
    mapping = b"\x41\xe7\x84dvcC\x41\xed\x98" + record(5, 0)
    padding = data.index(bytes(len(mapping)))
    assert padding < 1000
    clip.write_bytes(data[:padding] + mapping + data[padding + len(mapping) :])
    assert refusal_of_clip(clip).startswith("Dolby Vision profile 5")
