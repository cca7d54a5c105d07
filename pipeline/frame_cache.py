"""Frames decoded once and kept small: what the network looks at of each, cut, resized and written to a memory map.

`project.cache`/frames/<key>/frames.npy is (n, side, side, 3) RGB. The key is a digest of every frame file's bytes and
of the numbers below, so runs, folds and seeds share it, and a frame that changes is decoded again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.array_cache import CachedArray, key_of
from pipeline.base.errors import DataError
from pipeline.base.files import sha256_of
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
