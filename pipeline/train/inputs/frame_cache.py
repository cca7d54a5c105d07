"""Frames decoded once and kept small, each by itself: a new frame costs its own decoding, and a changed one too.

`project.cache`/frames/<key>/ is a `RecordStore`. The key is a digest of how frames are kept. A record is (height,
width, 3) RGB, and has the sha256 of the frame's file as its name. So runs, folds, seeds and data versions share it.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import cv2
import numpy as np
import PIL
import torch
from numpy.typing import NDArray

from pipeline.base.code_digest import digest_of_code
from pipeline.base.frames import read_frame
from pipeline.base.manifest import Row
from pipeline.base.parallel import each
from pipeline.base.project import Project
from pipeline.base.storage.cache_key import cache_key, digests_of
from pipeline.base.storage.record_store import RecordStore
from pipeline.network.preprocess import Preprocess

_CODE = ("pipeline/base/frames.py", "pipeline/network/preprocess.py", "pipeline/train/inputs", "runtime/images")


@functools.cache
def code_of_kept() -> str:
    """A digest of the code and the libraries that decode and resize frames."""
    return digest_of_code(_CODE, cv2.__version__, PIL.__version__, torch.__version__)


class Kept(Protocol):
    """What is kept of a frame."""

    @property
    def key(self) -> str:
        """A digest of all that decides about the kept pixels, but the frame itself."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the kept pixels."""

    def shape(self, row: Row) -> tuple[int, int, int]:
        """Height and width in pixels, and 3, of what is kept of a row's frame."""

    def picture_hwc(self, frame_hwc: NDArray[np.uint8]) -> NDArray[Any]:
        """What is kept of a frame, (height, width, 3) RGB."""


@dataclass(frozen=True)
class KeptBox:
    """The box that the network sees, cut and resized."""

    preprocess: Preprocess  # only its box is used
    side: int  # pixels
    dtype: np.dtype[Any]  # uint8: levels rounded; float32: exactly what evaluation and the graph compute

    @property
    def key(self) -> str:
        """A digest of the box, its size, and whether levels are rounded."""
        fraction = self.preprocess.center_fraction if self.preprocess.crop == "center" else None
        return cache_key(code_of_kept(), "box", self.preprocess.crop, fraction, self.side, self.dtype)

    def shape(self, row: Row) -> tuple[int, int, int]:  # noqa: ARG002  # of the protocol `Kept`
        """A square."""
        return self.side, self.side, 3

    def picture_hwc(self, frame_hwc: NDArray[np.uint8]) -> NDArray[Any]:
        """The levels 0 to 255 of the box, (side, side, 3)."""
        levels_chw = self.preprocess.resized(torch.from_numpy(frame_hwc).unsqueeze(0), self.side)[0]
        if self.dtype == np.uint8:
            levels_chw = levels_chw.round_().clamp_(0, 255)
        levels_hwc: NDArray[Any] = levels_chw.permute(1, 2, 0).numpy()
        return levels_hwc.astype(self.dtype, copy=False)


@dataclass(frozen=True)
class FrameCache:
    """The kept pictures of some rows, in the rows' order. They are decoded when they are first needed."""

    project: Project
    rows: Sequence[Row]
    digests: Sequence[str]  # sha256 of each row's file
    kept: Kept

    def __getitem__(self, position: int) -> NDArray[Any]:
        """One picture, (height, width, 3), read-only, mapped from disk.

        Raises:
            DataError: a frame is missing or broken.
        """
        return self._pictures[position]

    def stacked(self, positions: Sequence[int]) -> NDArray[Any]:
        """A copy of some pictures of one size, (n, height, width, 3).

        Raises:
            DataError: a frame is missing or broken.
        """
        return np.stack([self._pictures[position] for position in positions])

    def decode(self) -> None:
        """Decode the frames now, where the cache lacks them, and not in the thread of the first batch.

        Raises:
            DataError: a frame is missing or broken.
        """
        _ = self._pictures

    @cached_property
    def _pictures(self) -> list[NDArray[Any]]:
        store = RecordStore(self.project.cache / "frames" / self.kept.key, self.kept.dtype)
        return store.read_or_make(self.digests, [self.kept.shape(row) for row in self.rows], self._decode_into)

    def _decode_into(self, positions: Sequence[int], empty: Sequence[NDArray[Any]]) -> None:
        """Decode frames straight into their records, so that memory holds one frame per thread at most."""

        def decode(index: int) -> None:
            frame_hwc = read_frame(self.project, self.rows[positions[index]])
            empty[index][...] = self.kept.picture_hwc(frame_hwc)

        deque(each(decode, range(len(positions)), "decoding frames"), maxlen=0)


def open_frame_cache(project: Project, rows: Sequence[Row], kept: Kept) -> FrameCache:
    """Find the cache of these rows' frames. Their names are the manifest's digests, so no file is read for it.

    Args:
        project: the project whose frames the rows name.
        rows: the frames, in the order of the cache.
        kept: what is kept of each frame.

    Raises:
        DataError: a frame is missing.
    """
    return FrameCache(project, rows, digests_of(rows, project), kept)
