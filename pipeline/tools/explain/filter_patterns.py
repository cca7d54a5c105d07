"""Patterns that filters look for: pictures that make a filter's output large (study 004, section 4.2).

Gradient ascent changes a grey picture with weak noise in steps, so that the mean of the filter's output rises. The
filter is a convolution with the normalisation and activation behind it (Erhan et al. 2009). The settings are those of
Chollet, Deep Learning with Python, section 5.4.2, which the study follows.
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

GREY, NOISE = 128.0, 20.0  # levels of 255: the grey at the start, and the largest noise that is added to it
STEPS = 40
STEP_LEVELS = 1.0  # levels of 255, root mean square of one step; the study gives none, Chollet has 1
GUARD = 1e-5  # added to the gradient's root mean square before dividing by it
STAYS_NOISE = 0.7  # a picture that correlates more with the noise at its start has not become a pattern
_AT_ONCE = 8  # filters; more cost memory and save no time


@dataclass(frozen=True)
class Pattern:
    """The final picture of one filter."""

    filter_index: int  # from 0
    levels_chw: Tensor  # (3, size, size) float32, levels of 255
    noise_correlation: float  # with the noise at the start; see `correlation`

    @property
    def stays_noise(self) -> bool:
        """Whether the noise at the start can still be seen: no gradient reached the picture, or it led nowhere."""
        return self.noise_correlation > STAYS_NOISE


def patterns(network: Network, preprocess: Preprocess, layer: str, filters: Sequence[int]) -> list[Pattern]:
    """Compute the patterns of filters of one convolution. All start from the same noise.

    Args:
        network: on the CPU; it is put into eval mode, and its parameters need no gradients afterwards.
        preprocess: gives the size of the pictures, and normalises them.
        layer: full name of the convolution, as `find_convolution` gives it.
        filters: indices of its filters, from 0.

    Returns:
        One pattern per filter, in the order of `filters`.
    """
    network.eval().requires_grad_(False)
    start_nchw = starting_levels(preprocess.size)
    batches = [list(filters[first : first + _AT_ONCE]) for first in range(0, len(filters), _AT_ONCE)]
    steps = itertools.product(batches, range(STEPS))
    finished: list[Pattern] = []
    levels_nchw = start_nchw
    for batch, step in track(steps, f"filters of {layer}", len(batches) * STEPS):
        if step == 0:
            levels_nchw = start_nchw.repeat(len(batch), 1, 1, 1)
        levels_nchw = levels_nchw + STEP_LEVELS * _direction(network, preprocess, layer, batch, levels_nchw)
        if step == STEPS - 1:
            finished += [
                Pattern(filter_index, levels_chw, correlation(levels_chw, start_nchw[0]))
                for filter_index, levels_chw in zip(batch, levels_nchw, strict=True)
            ]
    return finished


def starting_levels(size: int) -> Tensor:
    """The picture at the start: grey with uniform noise, always the same; (1, 3, size, size) float32."""
    return GREY + NOISE * torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))


def _direction(
    network: Network, preprocess: Preprocess, layer: str, filters: Sequence[int], levels_nchw: Tensor
) -> Tensor:
    """The gradient of each picture's filter, with a root mean square of 1; 0 where there is no gradient.

    Picture `i` of `levels_nchw` belongs to `filters[i]`.
    """
    levels_nchw = levels_nchw.detach().requires_grad_()
    maps_nchw = maps_of_layer(network, layer, preprocess.normalised(levels_nchw.permute(0, 2, 3, 1)))
    # The sum over positions instead of the mean: the direction is the same, and GUARD stays small beside it.
    outputs = maps_nchw[torch.arange(len(filters)), torch.tensor(list(filters))].sum()
    (gradient_nchw,) = torch.autograd.grad(outputs, levels_nchw)
    return gradient_nchw / (gradient_nchw.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() + GUARD)


def correlation(levels_chw: Tensor, start_chw: Tensor) -> float:
    """The correlation of two pictures over all pixels, each channel less its mean; 0 where one of them is flat."""
    a_chw, b_chw = (picture - picture.mean(dim=(1, 2), keepdim=True) for picture in (levels_chw, start_chw))
    return float((a_chw * b_chw).sum() / (a_chw.norm() * b_chw.norm()).clamp_min(1e-12))


def drawable_levels(levels_chw: Tensor) -> Tensor:
    """Scale a pattern as the study does: the mean to the middle, a deviation to a tenth of the range.

    Returns:
        (height, width, 3) uint8.
    """
    centred = (levels_chw - levels_chw.mean()) / (levels_chw.std() + GUARD)
    return ((0.1 * centred + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
