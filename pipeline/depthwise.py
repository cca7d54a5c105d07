"""Depthwise convolutions with a stride, in float32 while the rest of a network trains in bf16 on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn


def keep_strided_depthwise_in_float32(network: nn.Module) -> None:
    """Let those that learn step out of a CPU's autocast.

    Torch has no fast gradient of them in bf16: with 96 channels of 112 x 112 pixels and a stride of 2, forward and
    backward of 16 pictures took 114 ms where float32 took 42, and MobileNetV2's whole step a fifth longer.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and _is_strided_depthwise(module) and module.weight.requires_grad:
            module.forward = partial(_in_float32, module.forward)  # type: ignore[method-assign]


def _is_strided_depthwise(convolution: nn.Conv2d) -> bool:
    return convolution.groups == convolution.in_channels > 1 and max(convolution.stride) > 1


def _in_float32(forward: Callable[[Tensor], Tensor], input_nchw: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return forward(input_nchw.float())
