"""Frames decoded once and kept small: the box that the network sees of each, cut, resized and mapped from disk.

`project.cache`/frames/<key>/frames.npy is (n, side, side, 3) RGB. The key is a digest of every frame file's bytes and
of the box, so that runs, folds and seeds share the file, and a frame that changes is decoded again. `CachedArray` is
the file itself; the feature cache keeps its arrays in the same way.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from pipeline.base.disk_space import mapped_array
from pipeline.base.errors import DataError
from pipeline.base.files import replacing_folder, sha256_of
from pipeline.base.frames import read_frame
from pipeline.base.manifest import Row
from pipeline.base.parallel import each
from pipeline.base.project import Project, safe_join
from pipeline.network.preprocess import Preprocess

FORMAT_VERSION = 1
_DIGEST_FILE = "sha256"  # lies beside the array: without it, bytes that changed on disk would load as other numbers


@dataclass(frozen=True)
class FrameCache:
    """The pixels of some rows, in the rows' order. They are decoded when they are first needed."""

    project: Project
    rows: Sequence[Row]
    preprocess: Preprocess  # only its box is used
    side: int  # pixels
    dtype: np.dtype[Any]  # uint8: levels rounded; float32: exactly what evaluation and the graph compute
    key: str

    @cached_property
    def pixels_nhwc(self) -> NDArray[Any]:
        """RGB levels 0 to 255 (n, side, side, 3), read-only, mapped from disk.

        Raises:
            DataError: a frame is missing or broken; nothing is kept then.
        """
        file = self.project.cache / "frames" / self.key / "frames.npy"
        array = CachedArray(file, (len(self.rows), self.side, self.side, 3), self.dtype)
        return array.read_or_make(self._decode_into)

    def decode(self) -> None:
        """Decode the frames now, where the cache lacks them, and not in the thread of the first batch.

        Raises:
            DataError: a frame is missing or broken; nothing is kept then.
        """
        _ = self.pixels_nhwc

    def _decode_into(self, pixels_nhwc: NDArray[Any]) -> None:
        """Decode every frame straight into the array, so that memory holds one frame per thread at most."""

        def decode_row(index: int) -> None:
            frame_nhwc = torch.from_numpy(read_frame(self.project, self.rows[index])).unsqueeze(0)
            levels_chw = self.preprocess.resized(frame_nhwc, self.side)[0]
            if self.dtype == np.uint8:
                levels_chw = levels_chw.round_().clamp_(0, 255)
            pixels_nhwc[index] = levels_chw.permute(1, 2, 0).numpy()

        deque(each(decode_row, range(len(self.rows)), "decoding frames"), maxlen=0)


def open_frame_cache(
    project: Project, rows: Sequence[Row], preprocess: Preprocess, side: int, dtype: np.dtype[Any]
) -> FrameCache:
    """Find the cache of these rows' frames. The key has the manifest's digests, so no file is read for it.

    Args:
        project: the project whose frames the rows name.
        rows: the frames, in the order of the cache.
        preprocess: the part of each frame that is kept.
        side: height and width of the kept pixels.
        dtype: uint8 for rounded levels, float32 for exact ones.

    Raises:
        DataError: a frame is missing.
    """

    def digest(row: Row) -> str:
        if row.sha256:
            return row.sha256
        try:
            return sha256_of(safe_join(project.root, row.path))
        except OSError as error:
            raise DataError(f"{row.path}: {error.strerror}; expected a picture that can be read") from error

    digests = each(digest, rows, "reading frames")
    fraction = preprocess.center_fraction if preprocess.crop == "center" else None
    settings = (FORMAT_VERSION, preprocess.crop, fraction, side, dtype)
    files = (part for row, text in zip(rows, digests, strict=True) for part in (row.path, text))
    return FrameCache(project, rows, preprocess, side, dtype, cache_key(*settings, *files))


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
