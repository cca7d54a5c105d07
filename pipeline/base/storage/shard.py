"""A shard: records in one file, which is written once and never changed.

The file has a head, an index with a line for each record, and the bytes of the records, one after the other. The head
holds the length of the file and the checksum of the index, and the index the checksum of each record. So a file that
a killed process, a full disk or a power cut left behind is no shard, and bytes that rotted are noticed.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.storage.disk_space import claim_blocks
from runtime.system.regular_files import open_regular

Bytes = NDArray[np.uint8]

_HEAD = struct.Struct("<8sQQII")  # magic, length of the file, number of records, CRC-32 of the index, of the head
_MAGIC = b"records1"
_LINE = np.dtype([("name", "u1", 32), ("start", "<u8"), ("n_bytes", "<u8"), ("seconds", "<f4"), ("crc32", "<u4")])
_NO_SHARD = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL}  # missing, or no plain file
_ALIGNMENT = 64  # bytes; of the first record


@dataclass(frozen=True)
class Shard:
    """The records of a file, mapped read-only."""

    content: Bytes  # of the whole file
    index: NDArray[Any]  # (n,) of `_LINE`

    @cached_property
    def names(self) -> list[str]:
        """The name of each record, 64 hex digits."""
        digits = self.index["name"].tobytes().hex()
        return [digits[start : start + 64] for start in range(0, len(digits), 64)]

    def record(self, slot: int) -> Bytes:
        """The bytes of a record; they may have rotted."""
        start, n_bytes = int(self.index["start"][slot]), int(self.index["n_bytes"][slot])
        return self.content[start : start + n_bytes]

    def seconds(self, slot: int) -> float:
        """What making a record took."""
        return float(self.index["seconds"][slot])

    def is_whole(self, slot: int) -> bool:
        """Whether a record has the bytes that were written."""
        return zlib.crc32(self.record(slot).data) == int(self.index["crc32"][slot])


def open_shard(path: Path) -> Shard | None:
    """Map a shard; None where the file is missing, or is not as it was written.

    Raises:
        OSError: this process may not read the file, has too many open, or the disk fails.
    """
    try:
        with open_regular(path) as file:
            content = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    except ValueError:  # the file is empty
        return None
    except OSError as error:
        if error.errno in _NO_SHARD:
            return None
        raise
    if len(content) < _HEAD.size:
        return None
    magic, length, n_records, crc_of_index, crc_of_head = _HEAD.unpack(content[: _HEAD.size].tobytes())
    is_head = zlib.crc32(content[: _HEAD.size - 4].data) == crc_of_head
    if not is_head or (magic, length) != (_MAGIC, len(content)):
        return None
    index = content[_HEAD.size : _HEAD.size + n_records * _LINE.itemsize]
    return Shard(content, index.view(_LINE)) if zlib.crc32(index.data) == crc_of_index else None


def write_shard(
    path: Path, records: Sequence[tuple[str, int]], fill: Callable[[list[Bytes]], Sequence[float]], *, named: Path
) -> str:
    """Write a shard. It is not flushed: that would wait for the disk, and `open_shard` notices a torn file.

    Args:
        path: the file to write.
        records: name, 64 hex digits, and number of bytes of each record.
        fill: fills the bytes of all records, and returns the seconds that making each took.
        named: what the message of a full disk calls the file.

    Returns:
        A digest of the names and the checksums of the records.

    Raises:
        DiskFullError: the disk has no room.
    """
    index = np.zeros(len(records), _LINE)
    index["name"] = np.frombuffer(bytes.fromhex("".join(name for name, _ in records)), np.uint8).reshape(-1, 32)
    index["n_bytes"] = [n_bytes for _, n_bytes in records]
    first = -(-(_HEAD.size + index.nbytes) // _ALIGNMENT) * _ALIGNMENT
    ends = first + np.cumsum(index["n_bytes"], dtype=np.uint64)
    index["start"] = ends - index["n_bytes"]
    length = int(ends[-1]) if len(records) else first
    claim_blocks(path, length, named=named)
    content = np.asarray(np.memmap(path, np.uint8, "r+"))
    arrays = [content[line["start"] : line["start"] + line["n_bytes"]] for line in index]
    index["seconds"] = fill(arrays)
    index["crc32"] = [zlib.crc32(array.data) for array in arrays]
    lines = index.view(np.uint8)
    content[_HEAD.size : _HEAD.size + index.nbytes] = lines
    head = _HEAD.pack(_MAGIC, length, len(records), zlib.crc32(lines.data), 0)[:-4]
    content[: _HEAD.size] = np.frombuffer(head + struct.pack("<I", zlib.crc32(head)), np.uint8)
    return hashlib.sha256(index["name"].tobytes() + index["crc32"].tobytes()).hexdigest()
