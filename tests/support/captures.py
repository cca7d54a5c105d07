"""Photos for tests with the EXIF that cameras write: time, camera, and the maker note of an iPhone."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import pillow_heif
from PIL import Image

APPLE = b"Apple iOS\0"
EXIF_BURST, EXIF_LIVE = 0x000B, 0x0011
_TAGS = {"taken": 0x9003, "fraction": 0x9291, "offset": 0x9011, "serial": 0xA431, "note": 0x927C}


def apple_note(ids: Mapping[int, str]) -> bytes:
    """The maker note of an iPhone with these texts by their tags."""
    head = APPLE + b"\0\1MM" + struct.pack(">H", len(ids))
    offset = len(head) + 12 * len(ids) + 4
    entries, texts = b"", b""
    for tag, text in ids.items():
        value = text.encode() + b"\0"
        entries += struct.pack(">HHII", tag, 2, len(value), offset + len(texts))
        texts += value
    return head + entries + bytes(4) + texts


def write_captured_photo(
    path: Path,
    *,
    make: str = "",
    model: str = "",
    level: int = 90,
    place: tuple[float, float, float] | None = None,
    **details: str | bytes,
) -> Path:
    """A small grey photo.

    Args:
        path: its suffix decides on the format.
        make: of the camera.
        model: of the camera.
        level: of grey.
        place: degrees, minutes and seconds north, as GPS writes them.
        details: `taken` as in EXIF, its `fraction` of a second and `offset` from UTC, `serial`, and the maker's `note`.
    """
    pillow_heif.register_heif_opener()
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (64, 48), (level, level, level))
    exif = image.getexif()
    exif[0x010F], exif[0x0110] = make, model
    exif.get_ifd(0x8769).update({_TAGS[name]: value for name, value in details.items()})
    if place is not None:
        exif.get_ifd(0x8825).update({1: "N", 2: place})
    image.save(path, exif=exif)
    return path
