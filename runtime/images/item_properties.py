"""Reads what AVIF and HEIC files state of their first picture: its transfer function, and whether it is turned.

Pillow and libheif pass neither on. The boxes are those of ISO/IEC 14496-12 and 23008-12.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from runtime.system.regular_files import open_regular

_MOST_BYTES = 16 * 2**20  # of the box that describes the pictures
_UNSTATED = 2


@dataclass(frozen=True)
class ItemProperties:
    """The properties of the primary picture. Transfer and primaries are the numbers of ITU-T H.273."""

    transfer: int = _UNSTATED
    primaries: int = _UNSTATED
    is_turned: bool = False  # whether the file says that a reader turns or mirrors it


def read_item_properties(source: Path | BinaryIO) -> ItemProperties:
    """Read the properties of the primary picture of an AVIF or HEIC file. A damaged description counts as none.

    Args:
        source: the file, or its bytes at their beginning.
    """
    try:
        if isinstance(source, Path):
            with open_regular(source) as file:
                return _properties(_description(file))
        source.seek(0)
        return _properties(_description(source))
    except (struct.error, IndexError, KeyError, OSError):
        return ItemProperties()


def _description(file: BinaryIO) -> bytes:
    """The content of the box `meta`; empty where there is none."""
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"meta":
            return file.read(min(length - 8, _MOST_BYTES) if length else _MOST_BYTES)
        if length < 8:
            break
        file.seek(length - 8, 1)
    return b""


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type and the content of boxes that follow one another."""
    start = 0
    while start + 8 <= len(data):
        length = int.from_bytes(data[start : start + 4], "big")
        if length < 8:
            return
        yield data[start + 4 : start + 8], data[start + 8 : start + length]
        start += length


def _properties(description: bytes) -> ItemProperties:
    boxes = dict(_boxes(description[4:]))
    if b"iprp" not in boxes:
        return ItemProperties()
    parts = dict(_boxes(boxes[b"iprp"]))
    properties = list(_boxes(parts[b"ipco"]))
    stated = ItemProperties()
    for index in _associated(parts[b"ipma"], _primary_item(boxes[b"pitm"])):
        name, content = properties[index - 1]
        if name == b"colr" and content[:4] == b"nclx":
            primaries, transfer = struct.unpack_from(">HH", content, 4)
            stated = ItemProperties(transfer, primaries, stated.is_turned)
        elif name in (b"irot", b"imir"):
            stated = ItemProperties(stated.transfer, stated.primaries, is_turned=True)
    return stated


def _primary_item(content: bytes) -> int:
    return int(struct.unpack_from(">I" if content[0] else ">H", content, 4)[0])


def _associated(content: bytes, item: int) -> list[int]:
    """The numbers of an item's properties, counted from 1."""
    wide_items, wide_indices = content[0] > 0, content[3] & 1
    (n_items,) = struct.unpack_from(">I", content, 4)
    start = 8
    for _ in range(n_items):
        (number,) = struct.unpack_from(">I" if wide_items else ">H", content, start)
        start += 4 if wide_items else 2
        n_indices = content[start]
        start += 1
        indices = struct.unpack_from(f">{n_indices}{'H' if wide_indices else 'B'}", content, start)
        start += n_indices * (2 if wide_indices else 1)
        if number == item:
            return [index & (0x7FFF if wide_indices else 0x7F) for index in indices if index & 0x7FFF]
    return []
