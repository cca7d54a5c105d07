"""Folders for what a stage needs for a moment; a full disk below them is named."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.base.storage.disk_space import naming_a_full_disk
from runtime.system import scratch


@contextlib.contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """Yield an empty folder below the system's temporary one, and remove it when the block ends.

    Args:
        purpose: a word for the folder's name, such as `simplify`.

    Raises:
        DiskFullError: the disk has no room for what the block writes.
    """
    with scratch.scratch_folder(purpose) as folder, naming_a_full_disk(folder, folder):
        yield folder


@contextlib.contextmanager
def library_temporaries_in(folder: Path) -> Iterator[None]:
    """Let libraries make their temporary files in a folder while the block runs.

    A killed process leaves them behind, and nobody else knows whose they are.

    Args:
        folder: one of `scratch_folder`, which the next run removes.
    """
    former, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = former
