"""Disk space: claimed before it is mapped, and named where it is lacking."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import DiskFullError, PipeError

if TYPE_CHECKING:  # `pipe --help` needs no numpy
    import numpy as np

_FULL = (errno.ENOSPC, errno.EDQUOT)
_LEAST_FREE = 65536  # bytes; a disk with less is full, whatever a library says of it


def mapped_array(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], *, named: Path
) -> np.memmap[Any, np.dtype[Any]]:
    """Make an .npy file whose array is mapped into memory, with all its blocks claimed.

    A disk that fills up under a memory map kills the process by a signal, without a message.

    Args:
        path: the file to make.
        shape: of the array.
        dtype: of the array.
        named: what the message calls the file: the place that it will be moved to, or the folder of temporaries.

    Raises:
        DiskFullError: the disk has no room.
    """
    from numpy.lib.format import open_memmap

    array: np.memmap[Any, np.dtype[Any]] = open_memmap(path, "w+", dtype, shape)
    claim_blocks(path, path.stat().st_size, named=named)
    return array


def claim_blocks(path: Path, n_bytes: int, *, named: Path) -> None:
    """Give a file, which may be missing, its length, and claim all its blocks.

    Args:
        path: the file.
        n_bytes: the length that it gets.
        named: as for `mapped_array`.

    Raises:
        DiskFullError: the disk has no room.
    """
    path.touch()
    with path.open("r+b") as file:
        file.truncate(n_bytes)
        if not hasattr(os, "posix_fallocate"):  # not on Windows and macOS
            return
        try:
            os.posix_fallocate(file.fileno(), 0, n_bytes)
        except OSError as error:
            if error.errno in _FULL:
                raise disk_full(named, f"{n_bytes:,} bytes") from error
            raise


class naming_a_full_disk:  # noqa: N801  # used like a function, as contextlib's own
    """Turn the error of a full disk into one that names the file and both numbers; used with `with`.

    Some libraries hide the operating system's error behind one of their own. Then the space that is left decides.
    """

    def __init__(self, named: Path, temporary: Path) -> None:
        """Name what the block writes.

        Args:
            named: the file or folder that the block writes.
            temporary: where the block writes it; what it holds when the disk is full tells how much was wanted at
                least.
        """
        self._named, self._temporary = named, temporary

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Raise the error of a full disk in place of another.

        Raises:
            DiskFullError: the disk has no room.
        """
        if not isinstance(error, Exception) or isinstance(error, PipeError):
            return
        has_no_cause = getattr(error, "errno", None) is None
        if is_full(error) or (has_no_cause and free_bytes(self._temporary) < _LEAST_FREE):
            raise disk_full(self._named, f"more than {bytes_in([self._temporary]):,} bytes") from error


def disk_full(named: Path, wanted: str) -> DiskFullError:
    """The error of a full disk.

    Args:
        named: the file or folder that is written.
        wanted: how many bytes it takes, in words.
    """
    free = free_bytes(named)
    return DiskFullError(f"{named}: the disk is full: found {free:,} bytes free; expected {wanted}; make room")


def is_full(error: BaseException) -> bool:
    """Whether an error is the operating system's word for a full disk, or was raised because of one."""
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, OSError) and current.errno in _FULL:
            return True
        current = current.__cause__ or current.__context__
    return False


def free_bytes(path: Path) -> int:
    """The bytes that this user may still write beside a path, which need not exist."""
    return shutil.disk_usage(next(folder for folder in (path, *path.absolute().parents) if folder.exists())).free


def bytes_in(paths: Iterable[Path]) -> int:
    """The bytes of files and of all files below folders; a file with two names counts once, no link is followed."""
    sizes = {(status.st_dev, status.st_ino): status.st_size for path in paths for status in _statuses(path)}
    return sum(sizes.values())


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
