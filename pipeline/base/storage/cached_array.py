"""Arrays on disk that can be made again: `project.cache`/<kind>/<key>/<file>, each named by what it depends on."""

from __future__ import annotations

import hashlib
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

_DIGEST_FILE = "sha256"  # lies beside the array: without it, bytes that changed on disk would load as other numbers


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

    file: Path  # .npy; its folder holds only this file and the digest
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read_or_make(self, fill: Callable[[NDArray[Any]], None]) -> NDArray[Any]:
        """Map the array read-only. Where it is missing or not as it was written, `fill` makes a new one.

        A second run that wants the same array waits until the first has made it. An error of `fill` leaves nothing.

        Raises:
            PipeError: the disk has no room for the array.
        """
        folder = self.file.parent
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if not self._is_whole():
                self._make(fill)
        array: NDArray[Any] = np.load(self.file, mmap_mode="r")
        return array

    def _is_whole(self) -> bool:
        digest = self.file.with_name(_DIGEST_FILE)
        return self.file.is_file() and digest.is_file() and sha256_of(self.file).encode() == digest.read_bytes()

    def _make(self, fill: Callable[[NDArray[Any]], None]) -> None:
        with replacing_folder(self.file.parent) as folder:
            file = folder / self.file.name
            array = mapped_array(file, self.shape, self.dtype, named=self.file)
            fill(array)
            array.flush()
            (folder / _DIGEST_FILE).write_text(sha256_of(file), encoding="ascii")
