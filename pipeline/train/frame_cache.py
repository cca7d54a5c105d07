"""Frames decoded once and kept small: what the network looks at of each, cut, resized and written to a memory map.

`project.cache`/frames/<key>/frames.npy is (n, side, side, 3) RGB. The key is a digest of every frame file's bytes and
of the numbers below, so runs, folds and seeds share it, and a frame that changes is decoded again.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from pipeline.base.errors import DataError, PipeError
from pipeline.base.files import replacing_folder, sha256_of
from pipeline.base.frames import read_frame
from pipeline.base.manifest import Row
from pipeline.base.parallel import each
from pipeline.base.project import Project, safe_join
from pipeline.network.preprocess import Preprocess

FORMAT_VERSION = 1


@dataclass(frozen=True)
class FrameCache:
    """The kept pixels of some rows, in the rows' order; they are decoded when they are first asked for."""

    project: Project
    rows: Sequence[Row]
    preprocess: Preprocess  # of which the box counts
    side: int  # pixels
    dtype: np.dtype[Any]  # uint8: levels rounded; float32: exactly what evaluation and the graph compute
    key: str

    def pixels_nhwc(self) -> NDArray[Any]:
        """(n, side, side, 3) RGB levels 0 to 255, read-only, mapped from disk.

        Raises:
            DataError: a frame is missing or broken; nothing is kept then.
        """
        file = self.project.cache / "frames" / self.key / "frames.npy"
        array = CachedArray(file, (len(self.rows), self.side, self.side, 3), self.dtype)
        return array.read_or_make(self._decode_into)

    def _decode_into(self, pixels_nhwc: NDArray[Any]) -> None:
        """Every thread writes its frame where it belongs, so that no more frames than threads are in memory."""

        def decode(number: int) -> None:
            frame_nhwc = torch.from_numpy(read_frame(self.project, self.rows[number])).unsqueeze(0)
            levels_chw = self.preprocess.resized(frame_nhwc, self.side)[0]
            if self.dtype == np.uint8:
                levels_chw = levels_chw.round_().clamp_(0, 255)
            pixels_nhwc[number] = levels_chw.permute(1, 2, 0).numpy()

        deque(each(decode, range(len(self.rows)), "decoding frames"), maxlen=0)


def frame_cache(
    project: Project, rows: Sequence[Row], preprocess: Preprocess, side: int, dtype: np.dtype[Any]
) -> FrameCache:
    """Find the cache of these rows' frames by reading all their files, without decoding any.

    Raises:
        DataError: a frame is missing.
    """

    def digest(row: Row) -> str:
        try:
            return sha256_of(safe_join(project.root, row.path))
        except OSError as error:
            raise DataError(f"{row.path}: {error.strerror}; expected a picture that can be read") from error

    digests = each(digest, rows, "reading frames")
    fraction = preprocess.center_fraction if preprocess.crop == "center" else None
    parts = (FORMAT_VERSION, preprocess.crop, fraction, side, dtype)
    key = key_of(*parts, *(part for row, text in zip(rows, digests, strict=True) for part in (row.path, text)))
    return FrameCache(project, rows, preprocess, side, dtype, key)


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
