"""How many bytes files and folders take, and how that is written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path


def bytes_in(paths: Iterable[Path]) -> int:
    """The bytes of files and of all files below folders; a file with two names counts once, no link is followed."""
    sizes = {(status.st_dev, status.st_ino): status.st_size for path in paths for status in _statuses(path)}
    return sum(sizes.values())


def in_words(n_bytes: int) -> str:
    """A number of bytes with a unit: 512 bytes, 3.4 MB, 120 GB."""
    if n_bytes < 1000:
        return f"{n_bytes} bytes"
    size, units = n_bytes / 1000, iter(("kB", "MB", "GB", "TB"))
    unit = next(units)
    while size >= 999.5 and unit != "TB":
        size, unit = size / 1000, next(units)
    return f"{size:.1f} {unit}" if size < 9.95 else f"{size:.0f} {unit}"


def _statuses(path: Path) -> Iterator[os.stat_result]:
    try:
        if path.is_dir() and not path.is_symlink():
            with os.scandir(path) as entries:
                for entry in entries:
                    yield from (
                        _statuses(Path(entry.path))
                        if entry.is_dir(follow_symlinks=False)
                        else [entry.stat(follow_symlinks=False)]
                    )
        elif os.path.lexists(path):
            yield path.lstat()
    except FileNotFoundError:
        return  # another process removed it meanwhile
