"""The one preprocessing: its numbers, and its form in torch for training and evaluation.

A box in source pixels is cut out and resized to size x size (bilinear, antialiased), then (x / 255 - mean) / std.
Cutting before resizing bounds memory at any aspect ratio. `export/graphs/preprocess_graph.py` builds the ONNX nodes
from the same numbers, and a test shows that both are equal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch.nn import functional

Channels = tuple[float, float, float]
Crop = Literal["squash", "center"]

MOST_SIZE = 4096  # as `image.size`


@dataclass(frozen=True)
class Preprocess:
    """The part of a picture that the network sees, its size, and its normalisation."""

    size: int  # side of the network's square input, pixels
    crop: Crop  # squash: the whole picture; center: its central square
    center_fraction: float  # for center: the square's side as a share of the shorter side
    mean: Channels  # of pixels in [0, 1], RGB
    std: Channels

    def __post_init__(self) -> None:
        """Check the values, which a checkpoint from anybody may hold.

        Raises:
            ValueError: a value is out of range, or not of its type.
        """
        numbers = (self.center_fraction, *self.mean, *self.std)
        if not all(isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x) for x in numbers):
            raise ValueError(f"found {self}; expected finite numbers")
        is_size = isinstance(self.size, int) and not isinstance(self.size, bool) and 1 <= self.size <= MOST_SIZE
        is_geometry = self.crop in get_args(Crop) and 0 < self.center_fraction <= 1
        if not is_size or not is_geometry or len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"found {self}; expected a size, a crop, and mean and std of three channels")

    def box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return top, left, height and width of the part that the network sees, in source pixels."""
        if self.crop == "squash":
            return 0, 0, height, width
        side = max(1, int(self.center_fraction * min(height, width) + 0.5))
        return (height - side) // 2, (width - side) // 2, side, side

    def __call__(self, images_nhwc: torch.Tensor) -> torch.Tensor:
        """Turn uint8 RGB pictures (batch, height, width, 3) into float32 input (batch, 3, size, size)."""
        resized = self.resized(images_nhwc, self.size)
        scale, bias = (resized.new_tensor(values).view(1, 3, 1, 1) for values in self.scale_and_bias())
        return resized * scale + bias

    def resized(self, images_nhwc: torch.Tensor, side: int) -> torch.Tensor:
        """Cut and resize uint8 RGB (batch, height, width, 3) to float32 levels 0 to 255 (batch, 3, side, side)."""
        top, left, height, width = self.box(images_nhwc.shape[1], images_nhwc.shape[2])
        box_nhwc = images_nhwc[:, top : top + height, left : left + width]
        pixels_nchw = box_nhwc.permute(0, 3, 1, 2).contiguous().float()
        return functional.interpolate(pixels_nchw, (side, side), mode="bilinear", align_corners=False, antialias=True)

    def normalised(self, levels_nhwc: torch.Tensor) -> torch.Tensor:
        """Turn pictures that are already cut and resized into the network's input.

        Args:
            levels_nhwc: (batch, size, size, 3) RGB levels 0 to 255, uint8 or float32.

        Returns:
            (batch, 3, size, size) float32, channels last in memory; the same numbers as `__call__` gives.
        """
        # Computed along whole rows: over an innermost axis of three, torch takes two to three times as long.
        width = levels_nhwc.shape[2]
        scale, bias = (
            torch.tensor(values, device=levels_nhwc.device).repeat(width) for values in self.scale_and_bias()
        )
        rows = levels_nhwc.flatten(2).to(torch.float32, copy=True)
        return rows.mul_(scale).add_(bias).view(levels_nhwc.shape).permute(0, 3, 1, 2)

    def scale_and_bias(self) -> tuple[list[float], list[float]]:
        """Return scale and bias per channel, so that pixel * scale + bias = (pixel / 255 - mean) / std."""
        scale = [1 / (255 * std) for std in self.std]
        bias = [-mean / std for mean, std in zip(self.mean, self.std, strict=True)]
        return scale, bias
