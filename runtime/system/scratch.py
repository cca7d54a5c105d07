"""Folders for what is needed for a moment, in the system's temporary folder.

A killed process cannot remove its folder. So a folder's name says whose it is, and the next one removes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

_OURS = "clip2edge"


@contextlib.contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """Yield an empty folder, and remove it when the block ends. Folders of processes that are gone are removed too.

    Args:
        purpose: a word for the folder's name, such as `selfcheck`.
    """
    parent = Path(tempfile.gettempdir())
    _sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"{_OURS}-{purpose}-{machine_digits()}-{os.getpid()}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def machine_digits() -> str:
    """Return 8 digits for this machine. Containers may share the temporary folder, and number their processes anew."""
    return hashlib.sha256(platform.node().encode("utf-8", "replace")).hexdigest()[:8]


def _sweep(parent: Path) -> None:
    name = re.compile(rf"{_OURS}-[a-z]+-{machine_digits()}-(\d+)-\w+")
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            owner = name.fullmatch(entry.name)
            if owner and _is_own_folder(entry.path) and not is_running(int(owner[1])):
                shutil.rmtree(entry.path, ignore_errors=True)


def _is_own_folder(path: str) -> bool:
    """Whether it is a folder of this user, and no link: other users write into the temporary folder too."""
    try:
        status = os.lstat(path)
    except OSError:  # another process has just removed it
        return False
    return stat.S_ISDIR(status.st_mode) and (not hasattr(os, "getuid") or status.st_uid == os.getuid())


def is_running(process_id: int) -> bool:
    """Return whether a process runs here. On Windows nothing asks without ending the process: there it always runs."""
    if os.name == "nt":
        return True
    try:
        os.kill(process_id, 0)
    except OverflowError:  # no system numbers a process so
        return False
    except OSError as error:
        return isinstance(error, PermissionError)  # the process runs, but belongs to another user
    return True
