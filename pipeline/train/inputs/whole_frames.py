"""Whole frames for random crops: no crop is enlarged more than the frame itself makes necessary."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from pipeline.base.manifest import Row
from pipeline.base.storage.cache_key import cache_key
from pipeline.network.preprocess import Preprocess
from pipeline.train.inputs.frame_cache import code_of_kept
from pipeline.train.params import RandomResizedCropView


@dataclass(frozen=True)
class KeptWhole:
    """The whole frame: at its own size, or with so few pixels as the smallest box of a random crop needs.

    The smallest box that may be drawn has `preprocess.size` pixels on its shorter side, where the frame has so many.
    With `crop: squash` the kept picture is a square, since the network sees it so: boxes have that geometry.
    """

    preprocess: Preprocess  # gives the size of a view, and whether the network sees frames squashed
    crop: RandomResizedCropView  # says how small a box may be

    @property
    def dtype(self) -> np.dtype[Any]:
        """Levels are rounded."""
        return np.dtype("u1")

    @property
    def key(self) -> str:
        """A digest of what decides about the size of the kept pictures."""
        smallest_box = (min(self.crop.area), _longest_aspect(self.crop))
        return cache_key(code_of_kept(), "whole", self.preprocess.crop == "squash", self.preprocess.size, smallest_box)

    def shape(self, row: Row) -> tuple[int, int, int]:
        """Height and width in pixels, and 3."""
        return *self.size(row.height, row.width), 3

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width at which a frame is kept.

        Args:
            height: of the frame, pixels.
            width: of the frame, pixels.
        """
        if self.preprocess.crop == "squash":
            height = width = max(height, width)
        smallest_side = math.sqrt(min(self.crop.area) * height * width / _longest_aspect(self.crop))
        scale = min(1.0, self.preprocess.size / smallest_side)
        return _rounded_up(height * scale), _rounded_up(width * scale)

    def picture_hwc(self, frame_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a frame as it is kept, (height, width, 3) uint8 RGB."""
        return _resized(frame_hwc, *self.size(frame_hwc.shape[0], frame_hwc.shape[1]))


def _longest_aspect(crop: RandomResizedCropView) -> float:
    return max(*crop.aspect, 1 / min(crop.aspect))


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
