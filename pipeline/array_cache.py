"""Arrays that outlive a run and are shared by runs: each in a folder named by the digest of all that it hangs on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from pipeline.base.errors import PipeError
from pipeline.base.files import replacing_folder, sha256_of

_DIGEST = "sha256"  # a file beside the array: bytes changed on disk would otherwise load as other numbers


def key_of(*parts: object) -> str:
    """A name for what hangs on these parts and nothing else; their text is what counts."""
    return hashlib.sha256("\0".join(str(part) for part in parts).encode()).hexdigest()


@dataclass(frozen=True)
class CachedArray:
    """An array on disk that can be made again from what its key names."""

    file: Path  # .npy; its folder holds nothing else but the digest
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read_or_make(self, fill: Callable[[NDArray[Any]], None]) -> NDArray[Any]:
        """Map the array read-only; where it is missing or not as it was written, `fill` makes a new one.

        A second run that wants the same array waits until the first has made it. An error of `fill` leaves nothing.

        Raises:
            PipeError: the disk has no room for it.
        """
        folder = self.file.parent
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if not self._is_whole():
                self._make(fill)
        array: NDArray[Any] = np.load(self.file, mmap_mode="r")
        return array

    def _make(self, fill: Callable[[NDArray[Any]], None]) -> None:
        with replacing_folder(self.file.parent) as folder:
            file = folder / self.file.name
            array = open_memmap(file, "w+", self.dtype, self.shape)
            _reserve(file, self.file)
            fill(array)
            array.flush()
            (folder / _DIGEST).write_text(sha256_of(file), encoding="ascii")

    def _is_whole(self) -> bool:
        digest = self.file.with_name(_DIGEST)
        return self.file.is_file() and digest.is_file() and sha256_of(self.file).encode() == digest.read_bytes()


def _reserve(file: Path, target: Path) -> None:
    """Claim the file's blocks now: a disk that fills up under a memory map kills the process without a word.

    Raises:
        PipeError: there is not enough room.
    """
    if not hasattr(os, "posix_fallocate"):  # not Linux
        return
    n_bytes = file.stat().st_size
    try:
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, n_bytes)
    except OSError as error:
        raise PipeError(f"{target}: {error.strerror}; make room for {n_bytes / 1e6:,.0f} MB, then run again") from error
