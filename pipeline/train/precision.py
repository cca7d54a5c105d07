"""Devices and precision: where training computes, in which number format, and the layers that stay in float32."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor, nn

from pipeline.base.errors import ParamsError
from pipeline.train.params import TrainParams

LONGEST_WAIT = timedelta(hours=24)  # the other processes wait this long while the first one fills a cache


def build_accelerator(params: TrainParams) -> Accelerator:
    """Return the devices and processes of this run, set to the precision of the params.

    Raises:
        ParamsError: fp16 is asked for without a GPU.
    """
    has_gpu = torch.cuda.is_available()
    # Accelerate computes in float32 where fp16 is asked for on a CPU, and gives no warning.
    if params.precision == "fp16" and not has_gpu:
        raise ParamsError("train.precision: fp16 needs a GPU; found none; use auto, bf16 or fp32")
    waiting = InitProcessGroupKwargs(timeout=LONGEST_WAIT)
    return Accelerator(mixed_precision=resolve_precision(params.precision), cpu=not has_gpu, kwargs_handlers=[waiting])


def resolve_precision(precision: str) -> str:
    """Return accelerate's name for a precision; `auto` is bf16 where the processor multiplies it in hardware."""
    if precision != "auto":
        return {"fp32": "no"}.get(precision, precision)
    if torch.cuda.is_available():
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if has_bf16 else "no"


def keep_strided_depthwise_in_float32(network: nn.Module) -> None:
    """Exempt the strided depthwise convolutions that learn from a CPU's autocast.

    Torch has no fast gradient of them in bf16. With 96 channels of 112 x 112 pixels and a stride of 2, forward and
    backward of 16 pictures took 114 ms; in float32 they took 42. MobileNetV2's whole step took a fifth longer.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and _is_strided_depthwise(module) and module.weight.requires_grad:
            module.forward = partial(_in_float32, module.forward)  # type: ignore[method-assign]


def keep_in_float32_with_depthwise(module: nn.Module) -> None:
    """Exempt a module from a CPU's autocast, if it has a depthwise convolution.

    Torch's gradient of these is slow in bf16. A step of the last blocks of EfficientNet-Lite0 on 32 pictures of 224
    pixels took 0.73 s in bf16, 0.47 with the depthwise convolutions alone in float32, and 0.39 in float32.
    """
    convolutions = (part for part in module.modules() if isinstance(part, nn.Conv2d))
    if any(convolution.groups == convolution.in_channels > 1 for convolution in convolutions):
        module.forward = partial(_in_float32, module.forward)


def _is_strided_depthwise(convolution: nn.Conv2d) -> bool:
    return convolution.groups == convolution.in_channels > 1 and max(convolution.stride) > 1


def _in_float32(forward: Callable[[Tensor], Tensor], input_nchw: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return forward(input_nchw.float())
