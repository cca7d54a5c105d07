"""Arrays on disk that can be made again: `project.cache`/<kind>/<key>/<file>, each named by what it depends on."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from pipeline.base.errors import DataError
from pipeline.base.files import replacing_folder, sha256_of
from pipeline.base.manifest import Row
from pipeline.base.parallel import each
from pipeline.base.project import Project, safe_join
from pipeline.base.storage.disk_space import mapped_array
from pipeline.base.storage.making_time import add_array, making_time

_DIGEST_FILE = "sha256"  # lies beside the array: without it, bytes that changed on disk would load as other numbers
_SECONDS_FILE = "seconds"  # that making the array took, so that a run can state its time without the cache


def digests_of(rows: Sequence[Row], project: Project) -> list[str]:
    """The sha256 of each row's file. The manifest has it, so no file is read for it, but for rows that no stage wrote.

    Raises:
        DataError: such a file cannot be read.
    """

    def digest(row: Row) -> str:
        if row.sha256:
            return row.sha256
        try:
            return sha256_of(safe_join(project.root, row.path))
        except OSError as error:
            raise DataError(f"{row.path}: {error.strerror}; expected a picture that can be read") from error

    return list(each(digest, rows, "reading frames"))


def cache_key(*parts: object) -> str:
    """Return a digest of the text of some parts; other parts, or another order, give another key."""
    return hashlib.sha256("\0".join(str(part) for part in parts).encode()).hexdigest()


@dataclass(frozen=True)
class CachedArray:
    """An array on disk that can be made again from what its key names."""

    file: Path  # .npy; its folder holds only this file, the digest and the time
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read_or_make(self, fill: Callable[[NDArray[Any]], None]) -> NDArray[Any]:
        """Map the array read-only. Where it is missing or not as it was written, `fill` makes a new one.

        A second run that wants the same array waits until the first has made it. An error of `fill` leaves nothing.
        A block of `making_time` around the call learns what the array cost.

        Raises:
            PipeError: the disk has no room for the array.
        """
        started = time.perf_counter()
        folder = self.file.parent
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if not self._is_whole():
                self._make(fill)
            seconds = self._seconds() or 0.0
            os.utime(folder)  # `pipe clean` keeps what a run has read since the split was drawn
        array: NDArray[Any] = np.load(self.file, mmap_mode="r")
        add_array(self.file, time.perf_counter() - started, seconds)
        return array

    def read_or_make_for_torch(self, fill: Callable[[NDArray[Any]], None]) -> NDArray[Any]:
        """As `read_or_make`, with a mapping that torch takes without a warning: what is written to it stays in memory.

        Raises:
            PipeError: the disk has no room for the array.
        """
        self.read_or_make(fill)
        array: NDArray[Any] = np.load(self.file, mmap_mode="c")
        return array

    def _is_whole(self) -> bool:
        digest = self.file.with_name(_DIGEST_FILE)
        is_whole = self.file.is_file() and digest.is_file() and sha256_of(self.file).encode() == digest.read_bytes()
        return is_whole and self._seconds() is not None

    def _seconds(self) -> float | None:
        """What making the array took; None where no such number lies beside it."""
        try:
            seconds = float(self.file.with_name(_SECONDS_FILE).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        return seconds if math.isfinite(seconds) and seconds >= 0 else None

    def _make(self, fill: Callable[[NDArray[Any]], None]) -> None:
        started = time.perf_counter()
        with replacing_folder(self.file.parent) as folder, making_time() as inner:
            file = folder / self.file.name
            array = mapped_array(file, self.shape, self.dtype, named=self.file)
            fill(array)
            array.flush()
            (folder / _DIGEST_FILE).write_text(sha256_of(file), encoding="ascii")
            # Arrays that `fill` reads, such as decoded frames, count with what making them took.
            seconds = time.perf_counter() - started - inner.spent + sum(inner.made.values())
            (folder / _SECONDS_FILE).write_text(f"{max(0.0, seconds):.3f}", encoding="ascii")
