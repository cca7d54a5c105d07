"""What a filter looks for: a picture that makes its output large, by gradient ascent in the input (study 004, 4.2).

A grey picture with weak noise is changed in steps so that the mean of the filter's output rises; the filter is a
convolution with the normalisation and activation behind it (Erhan et al. 2009; the recipe is that of Chollet, Deep
Learning with Python, section 5.4.2, which the study follows).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.base.progress import track
from pipeline.network.network import Network
from pipeline.network.preprocess import Preprocess
from pipeline.tools.explain.activations import maps_of_layer

GREY, NOISE = 128.0, 20.0  # levels of 255: the picture at the start, and the noise from 0 on top of it
STEPS = 40
STEP_LEVELS = 1.0  # root mean square of one step; the study gives none, Chollet has 1
GUARD = 1e-5  # added to the gradient's root mean square before dividing by it
STAYS_NOISE = 0.7  # a picture that correlates more than this with the noise at its start has not become a pattern
_AT_ONCE = 8  # filters; more would cost memory and no less time


@dataclass(frozen=True)
class Pattern:
    """What one filter made of the noise."""

    number: int  # of the filter, from 0
    levels_chw: Tensor  # (3, size, size) float32
    likeness: float  # correlation with the noise at the start, of all pixels less their channel's mean

    @property
    def stays_noise(self) -> bool:
        """Whether the start can still be seen: no gradient reached the picture, or it led nowhere."""
        return self.likeness > STAYS_NOISE


def patterns(network: Network, preprocess: Preprocess, layer: str, filters: Sequence[int]) -> list[Pattern]:
    """The patterns of some filters of a convolution; all start from the same noise."""
    network.eval().requires_grad_(False)
    start_nchw = starting_levels(preprocess.size)
    batches = [list(filters[first : first + _AT_ONCE]) for first in range(0, len(filters), _AT_ONCE)]
    steps = itertools.product(batches, range(STEPS))
    found: list[Pattern] = []
    levels_nchw = start_nchw
    for numbers, step in track(steps, f"filters of {layer}", len(batches) * STEPS):
        if step == 0:
            levels_nchw = start_nchw.repeat(len(numbers), 1, 1, 1)
        levels_nchw = levels_nchw + STEP_LEVELS * _direction(network, preprocess, layer, numbers, levels_nchw)
        if step == STEPS - 1:
            found += [
                Pattern(number, levels_chw, likeness(levels_chw, start_nchw[0]))
                for number, levels_chw in zip(numbers, levels_nchw, strict=True)
            ]
    return found


def starting_levels(size: int) -> Tensor:
    """Grey with uniform noise, (1, 3, size, size), always the same."""
    return GREY + NOISE * torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))


def _direction(
    network: Network, preprocess: Preprocess, layer: str, numbers: Sequence[int], levels_nchw: Tensor
) -> Tensor:
    """The gradient of each picture's own filter, normalised to a root mean square of 1; 0 where there is none."""
    levels_nchw = levels_nchw.detach().requires_grad_()
    maps_nchw = maps_of_layer(network, layer, preprocess.normalised(levels_nchw.permute(0, 2, 3, 1)))
    # The sum over places instead of their mean: the direction is the same, and the guard stays small beside it.
    own = maps_nchw[torch.arange(len(numbers)), torch.tensor(list(numbers))].sum()
    (gradient_nchw,) = torch.autograd.grad(own, levels_nchw)
    return gradient_nchw / (gradient_nchw.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() + GUARD)


def likeness(levels_chw: Tensor, start_chw: Tensor) -> float:
    """The correlation of two pictures over all pixels, each channel less its mean; 0 where one of them is flat."""
    one, other = (picture - picture.mean(dim=(1, 2), keepdim=True) for picture in (levels_chw, start_chw))
    return float((one * other).sum() / (one.norm() * other.norm()).clamp_min(1e-12))


def drawable_levels(levels_chw: Tensor) -> Tensor:
    """A pattern as the study draws it: mean to the middle, a deviation to a tenth of the range; uint8 (h, w, 3)."""
    centred = (levels_chw - levels_chw.mean()) / (levels_chw.std() + GUARD)
    return ((0.1 * centred + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
