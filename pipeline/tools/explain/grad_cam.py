"""Grad-CAM (Selvaraju et al., ICCV 2017, by the package grad-cam): which parts of a picture speak for a class."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.base.errors import DataError
from pipeline.network.network import Network

_EXTRA_TOKENS = 5  # at most, before the tokens of the positions: a transformer's class token and registers


def heat_map(network: Network, input_nchw: Tensor, class_index: int) -> NDArray[np.float32]:
    """Compute how much each position speaks for a class.

    Args:
        network: on the CPU; afterwards its parameters have gradients, and its activations do not write in place.
        input_nchw: one preprocessed picture (1, 3, size, size) float32.
        class_index: the class that is explained, an index of the logits.

    Returns:
        (size, size) float32 from 0 to 1, the largest value; all 0 where nothing speaks for the class.

    Raises:
        DataError: the network has no layer with positions that its answer depends on.
    """
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network.eval().requires_grad_()  # a frozen network would give no gradient
    for part in network.modules():
        if hasattr(part, "inplace"):
            setattr(part, "inplace", False)  # noqa: B010  # to mypy every attribute of a module is a tensor
    layer = last_spatial_layer(network, input_nchw, class_index)
    with GradCAM(network, [layer], reshape_transform=as_maps) as cam:
        (heat_hw,) = cam(input_nchw, [ClassifierOutputTarget(class_index)])
    return np.asarray(heat_hw, np.float32)


def last_spatial_layer(network: Network, input_nchw: Tensor, class_index: int) -> nn.Module:
    """Find the last part of the backbone whose output has positions, with gradients that differ from 0.

    This is the layer before the pooling. In a transformer that answers from its class token, it is the normalisation
    before the last attention.

    Args:
        network: its parameters have gradients.
        input_nchw: one preprocessed picture (1, 3, size, size) float32.
        class_index: the class whose logit gives the gradients.

    Raises:
        DataError: there is none.
    """
    spatial: list[tuple[nn.Module, Tensor]] = []

    def collect(part: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad and _is_spatial(part, output):
            spatial.append((part, output))

    handles = [part.register_forward_hook(collect) for part in network.backbone.modules()]
    try:
        logit = network(input_nchw)[0, class_index]
    finally:
        for handle in handles:
            handle.remove()
    gradients = torch.autograd.grad(logit, [output for _, output in spatial], allow_unused=True) if spatial else ()
    for (part, _), gradient in zip(reversed(spatial), reversed(gradients), strict=True):
        if gradient is not None and as_maps(gradient).any():
            return part
    raise DataError(
        "models/checkpoint.pt: found no layer with both positions and gradients; "
        "Grad-CAM needs one, so this network cannot be explained"
    )


def _is_spatial(part: nn.Module, output: Tensor) -> bool:
    is_tokens = output.ndim == 3 and isinstance(part, nn.LayerNorm)
    return output.shape[0] == 1 and (output.ndim == 4 or is_tokens) and _side(output) > 1


def _side(output: Tensor) -> int:
    """The side of the square of positions; 0 where the output is no such square."""
    if output.ndim == 4:
        axes = [(2, 3), (1, 2)]  # channels first, channels last
        return next((output.shape[a] for a, b in axes if output.shape[a] == output.shape[b]), 0)
    side = math.isqrt(output.shape[1])
    return side if output.shape[1] - side**2 <= _EXTRA_TOKENS else 0


def as_maps(output: Tensor) -> Tensor:
    """Lay out a layer's output, also with channels last or as tokens, as maps (batch, channels, side, side)."""
    if output.ndim == 3:
        side = _side(output)
        tokens = output[:, output.shape[1] - side**2 :]
        return tokens.reshape(-1, side, side, output.shape[2]).permute(0, 3, 1, 2)
    return output if output.shape[2] == output.shape[3] else output.permute(0, 3, 1, 2)
