"""Recognition of HEIC, which phones write and the device does not read."""

from __future__ import annotations

from pathlib import Path

from runtime.system.regular_files import open_regular

SUFFIXES = frozenset({".heic", ".heif"})
REMEDY = "HEIC, which is not read here; convert it to JPEG first"  # said after the file's name
_HEAD_BYTES = 12  # size of the first box, its type, and the brand of the file
_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})


def is_heic(path: Path) -> bool:
    """Return whether a file that no reader knows is HEIC, by its content. A file that cannot be read is not."""
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    return head[4:8] == b"ftyp" and head[8:] in _BRANDS
