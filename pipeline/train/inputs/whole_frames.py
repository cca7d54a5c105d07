"""Whole frames for random crops, decoded once: no crop is enlarged more than the frame itself makes necessary.

`project.cache`/frames/<key>/frames.npy is (bytes,) uint8: the pictures (height, width, 3) RGB, one after the other. The
key is a digest of every frame file's bytes, of the sizes, and of how the pictures are kept.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from pipeline.base.frames import read_frame
from pipeline.base.manifest import Row
from pipeline.base.parallel import each
from pipeline.base.project import Project
from pipeline.base.storage.cached_array import CachedArray, cache_key, digests_of
from pipeline.network.preprocess import Preprocess
from pipeline.train.params import RandomResizedCropView

FORMAT_VERSION = 1


@dataclass(frozen=True)
class WholeFrames:
    """The pictures of some rows, in the rows' order. They are decoded when they are first needed."""

    project: Project
    rows: Sequence[Row]
    shapes: Sequence[tuple[int, int]]  # height and width of each picture, pixels
    key: str

    def picture_hwc(self, position: int) -> NDArray[np.uint8]:
        """Return a copy of one picture, (height, width, 3) RGB.

        Raises:
            DataError: a frame is missing or broken; nothing is kept then.
        """
        return np.array(self._picture_in(self._levels, position))

    def decode(self) -> None:
        """Decode the frames now, where the cache lacks them, and not in the thread of the first batch.

        Raises:
            DataError: a frame is missing or broken; nothing is kept then.
        """
        _ = self._levels

    @cached_property
    def _levels(self) -> NDArray[Any]:
        file = self.project.cache / "frames" / self.key / "frames.npy"
        return CachedArray(file, (int(self._starts[-1]),), np.dtype("u1")).read_or_make(self._decode_into)

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        sizes = [3 * height * width for height, width in self.shapes]
        return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

    def _picture_in(self, levels: NDArray[Any], position: int) -> NDArray[np.uint8]:
        picture: NDArray[np.uint8] = levels[self._starts[position] : self._starts[position + 1]]
        return picture.reshape(*self.shapes[position], 3)

    def _decode_into(self, levels: NDArray[Any]) -> None:
        """Decode every frame straight into the array, so that memory holds one frame per thread at most."""

        def decode_row(position: int) -> None:
            frame_hwc = read_frame(self.project, self.rows[position])
            self._picture_in(levels, position)[...] = _resized(frame_hwc, *self.shapes[position])

        deque(each(decode_row, range(len(self.rows)), "decoding frames"), maxlen=0)


def open_whole_frames(
    project: Project, rows: Sequence[Row], preprocess: Preprocess, crop: RandomResizedCropView
) -> WholeFrames:
    """Find the cache of these rows' whole frames. The key has the manifest's digests, so no file is read for it.

    Args:
        project: the project whose frames the rows name.
        rows: the frames, in the order of the cache.
        preprocess: gives the size of a view, and whether the network sees frames squashed.
        crop: says how small a box may be.

    Raises:
        DataError: a frame is missing.
    """
    shapes = [kept_shape(row.height, row.width, preprocess, crop) for row in rows]
    files = (part for row, text in zip(rows, digests_of(rows, project), strict=True) for part in (row.path, text))
    return WholeFrames(project, rows, shapes, cache_key(FORMAT_VERSION, "whole", *shapes, *files))


def kept_shape(height: int, width: int, preprocess: Preprocess, crop: RandomResizedCropView) -> tuple[int, int]:
    """Return the height and width at which a frame is kept: its own, or so few pixels as the smallest box needs.

    The smallest box that may be drawn has `preprocess.size` pixels on its shorter side, where the frame has so many.
    With `crop: squash` the kept picture is a square, since the network sees it so: boxes have that geometry.

    Args:
        height: of the frame, pixels.
        width: of the frame, pixels.
        preprocess: gives the size of a view, and whether the network sees frames squashed.
        crop: says how small a box may be.
    """
    if preprocess.crop == "squash":
        height = width = max(height, width)
    longest_aspect = max(*crop.aspect, 1 / min(crop.aspect))
    smallest_side = math.sqrt(min(crop.area) * height * width / longest_aspect)
    scale = min(1.0, preprocess.size / smallest_side)
    return _rounded_up(height * scale), _rounded_up(width * scale)


def kept_picture(
    frame_hwc: NDArray[np.uint8], preprocess: Preprocess, crop: RandomResizedCropView
) -> NDArray[np.uint8]:
    """Return a frame as it is kept, (height, width, 3) uint8 RGB.

    Args:
        frame_hwc: (height, width, 3) uint8 RGB.
        preprocess: as for `kept_shape`.
        crop: as for `kept_shape`.
    """
    height, width = frame_hwc.shape[0], frame_hwc.shape[1]
    return _resized(frame_hwc, *kept_shape(height, width, preprocess, crop))


def _rounded_up(pixels: float) -> int:
    return max(1, math.ceil(pixels - 1e-6))  # rounding errors of floats add no pixel


def _resized(frame_hwc: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize a frame as the preprocessing does (bilinear, antialiased), and round it to 8 bits."""
    if frame_hwc.shape[:2] == (height, width):
        return frame_hwc
    frame_nchw = torch.from_numpy(frame_hwc).permute(2, 0, 1)[None].contiguous().float()
    levels_nchw = functional.interpolate(
        frame_nchw, (height, width), mode="bilinear", align_corners=False, antialias=True
    )
    resized_hwc: NDArray[np.uint8] = levels_nchw[0].round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return resized_hwc
