"""The one way to open what a person names: a pipe would wait for its writer, and a device never ends."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_KINDS = {
    stat.S_IFIFO: "a named pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket",
}  # fmt: skip


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading bytes.

    Raises:
        OSError: there is no such file, it cannot be opened, or it is a folder, a named pipe, a device or a socket. The
            error has the path, and `strerror` says which.
    """
    # Without O_NONBLOCK the opening of a named pipe would wait for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except ValueError as error:  # a zero byte, or half of a surrogate pair
        raise OSError(errno.EINVAL, "no name of a file", str(path)) from error
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind == stat.S_IFREG:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, f"{_KINDS.get(kind, 'no plain file')}; expected a file", str(path))


def read_regular(path: Path, most_bytes: int) -> bytes:
    """Read a whole file.

    Args:
        path: the file.
        most_bytes: a larger file is refused after so many bytes.

    Raises:
        OSError: as `open_regular`, or the file is larger.
    """
    with open_regular(path) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"more than {most_bytes:,} bytes", str(path))
    return content
