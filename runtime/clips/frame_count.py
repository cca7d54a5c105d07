"""How many frames a container promises to show. A clip that gives fewer is cut short, or damaged."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from av.container import InputContainer
from av.video.stream import VideoStream

from runtime.system.regular_files import open_regular


@dataclass(frozen=True)
class FrameCount:
    """The frames that a container lists."""

    stored: int  # those that an edit list hides are among them
    hidden: int

    @property
    def shown(self) -> int:
        """The frames to show. An edit list may hide frames, and may show one twice."""
        return self.stored - self.hidden


def count_frames(path: Path, container: InputContainer, stream: VideoStream) -> FrameCount | None:
    """Count the frames that the container lists; None where it states no number. Call it before packets are read.

    The header counts stored frames. An edit list shows other frames, and an AVI counts dropped frames too, which are
    empty chunks. So the index counts where the file has one.

    Args:
        path: the file.
        container: the clip, just opened.
        stream: its video stream.
    """
    if not stream.frames:
        return None
    is_avi = container.format.name == "avi"
    if container.format.name == "mov" or (is_avi and _has_index(path)):
        are_hidden = [bool(entry.is_discard) for entry in stream.index_entries if entry.size]
        if are_hidden:
            return FrameCount(len(are_hidden), sum(are_hidden))
    if is_avi and not _is_cut_short(path):
        return None  # nothing says how many of the counted frames are empty
    return FrameCount(stream.frames, 0)


def _has_index(path: Path) -> bool:
    """Whether the first list of an AVI is followed by an index."""
    return any(name == b"idx1" for name, _ in _chunks(path, 12))


def _is_cut_short(path: Path) -> bool:
    """Whether an AVI ends before its last chunk does. A long AVI has several chunks at the top."""
    ends = [end for _, end in _chunks(path, 0)]
    return ends[-1] > path.stat().st_size + 1  # an odd chunk is padded, and not every program does that


def _chunks(path: Path, start: int) -> Iterator[tuple[bytes, int]]:
    """Yield the name and the end of a file's chunks, one after the other."""
    size = path.stat().st_size
    with open_regular(path) as file:
        while start < size:
            file.seek(start)
            name, length = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
            start += 8 + length + length % 2
            yield name, start
