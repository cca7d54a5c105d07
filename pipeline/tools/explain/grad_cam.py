"""Where in a picture a network found its class: Grad-CAM (Selvaraju et al., ICCV 2017), by the package grad-cam."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.base.errors import DataError
from pipeline.network.network import Network

_EXTRA_TOKENS = 5  # before those of the places: a transformer's class token, registers


def evidence(network: Network, input_nchw: Tensor, class_number: int) -> NDArray[np.float32]:
    """How much each place speaks for a class, 0 to 1 where the most is; all 0 where nothing does.

    Args:
        network: on the CPU; its parameters are asked for gradients from here on, and nothing writes in place.
        input_nchw: one picture (1, 3, size, size).
        class_number: the class that is explained.

    Returns:
        (size, size) float32.

    Raises:
        DataError: the network has no layer of places that its answer hangs on.
    """
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network.eval().requires_grad_()  # a frozen network would give no gradient
    for part in network.modules():
        if hasattr(part, "inplace"):
            setattr(part, "inplace", False)  # noqa: B010  # to mypy every attribute of a module is a tensor
    layer = last_layer_of_places(network, input_nchw, class_number)
    with GradCAM(network, [layer], reshape_transform=as_maps) as cam:
        (heat_hw,) = cam(input_nchw, [ClassifierOutputTarget(class_number)])
    return np.asarray(heat_hw, np.float32)


def last_layer_of_places(network: Network, input_nchw: Tensor, class_number: int) -> nn.Module:
    """The last part of the backbone whose output has places, with gradients at them: what pooling is about to blend.

    In a transformer that answers from its class token, that is the normalisation before its last attention.

    Raises:
        DataError: there is none.
    """
    seen: list[tuple[nn.Module, Tensor]] = []

    def look(part: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad and _has_places(part, output):
            seen.append((part, output))

    handles = [part.register_forward_hook(look) for part in network.backbone.modules()]
    try:
        logit = network(input_nchw)[0, class_number]
    finally:
        for handle in handles:
            handle.remove()
    gradients = torch.autograd.grad(logit, [output for _, output in seen], allow_unused=True) if seen else ()
    for (part, _), gradient in zip(reversed(seen), reversed(gradients), strict=True):
        if gradient is not None and as_maps(gradient).any():
            return part
    raise DataError(
        "models/checkpoint.pt: no layer has both places and gradients; Grad-CAM cannot explain this network"
    )


def _has_places(part: nn.Module, output: Tensor) -> bool:
    is_tokens = output.ndim == 3 and isinstance(part, nn.LayerNorm)
    return output.shape[0] == 1 and (output.ndim == 4 or is_tokens) and _side(output) > 1


def _side(output: Tensor) -> int:
    """How many places a side the square has; 0 where there is none."""
    if output.ndim == 4:
        sides = [(2, 3), (1, 2)]  # channels first, channels last
        return next((output.shape[a] for a, b in sides if output.shape[a] == output.shape[b]), 0)
    side = math.isqrt(output.shape[1])
    return side if output.shape[1] - side**2 <= _EXTRA_TOKENS else 0


def as_maps(output: Tensor) -> Tensor:
    """A layer's output as maps (batch, channels, side, side), from channels last and from tokens too."""
    if output.ndim == 3:
        side = _side(output)
        places = output[:, output.shape[1] - side**2 :]
        return places.reshape(-1, side, side, output.shape[2]).permute(0, 3, 1, 2)
    return output if output.shape[2] == output.shape[3] else output.permute(0, 3, 1, 2)
