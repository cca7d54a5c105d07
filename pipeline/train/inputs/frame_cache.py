"""Frames decoded once and kept small: the box that the network sees of each, cut, resized and mapped from disk.

`project.cache`/frames/<key>/frames.npy is (n, side, side, 3) RGB. The key is a digest of every frame file's bytes and
of the box, so that runs, folds and seeds share the file, and a frame that changes is decoded again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.base.frames import read_frame
from pipeline.base.manifest import Row
from pipeline.base.parallel import each
from pipeline.base.project import Project
from pipeline.base.storage.cached_array import CachedArray, cache_key, digests_of
from pipeline.network.preprocess import Preprocess

FORMAT_VERSION = 1


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
    digests = digests_of(rows, project)
    fraction = preprocess.center_fraction if preprocess.crop == "center" else None
    settings = (FORMAT_VERSION, preprocess.crop, fraction, side, dtype)
    files = (part for row, text in zip(rows, digests, strict=True) for part in (row.path, text))
    return FrameCache(project, rows, preprocess, side, dtype, cache_key(*settings, *files))
