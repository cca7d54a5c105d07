"""The whole network, and the checkpoint that later stages rebuild it from."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pipeline.base.errors import ParamsError
from pipeline.network.architectures import architecture_of
from pipeline.network.backbones import build_body
from pipeline.network.freezing import freeze
from pipeline.network.heads import Head, build_head, build_hidden
from pipeline.network.params import ImageParams, ModelParams
from pipeline.network.preprocess import Preprocess


class Network(nn.Module):
    """Backbone, pooling, head."""

    def __init__(self, backbone: nn.Module, pool: nn.Module, head: Head, size: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.pool = pool
        self.head = head
        self.size = size  # of the input, in pixels a side
        self.closed: tuple[nn.Module, ...] = ()  # the parts of the backbone that are frozen

    def embed(self, input_nchw: Tensor) -> Tensor:
        """Input (batch, 3, size, size) to pooled features (batch, channels)."""
        features: Tensor = self.pool(self.backbone(input_nchw))
        return features

    def forward(self, input_nchw: Tensor) -> Tensor:
        """Input (batch, 3, size, size) to logits (batch, classes)."""
        logits: Tensor = self.head(self.embed(input_nchw))
        return logits

    def train(self, mode: bool = True) -> Network:
        """Set training mode, but for what is frozen: its batch norm keeps its statistics, its dropout is off."""
        super().train(mode)
        for part in self.closed:
            part.training = False
        return self


def build_network(model: ModelParams, size: int, n_classes: int) -> Network:
    """Build a network for pictures of `size` pixels a side, with its starting weights, frozen as `model.freeze` says.

    Raises:
        ParamsError: there is no such network or layer, or it cannot be had with this head or size.
        DataError: the weights do not fit (see `build_body`).
    """
    body = build_body(model.arch, model.weights, plain=model.head == "plain")
    shape = _shape(body.backbone, model, size)
    if model.head == "plain":
        pool, hidden = body.pool, body.hidden
    else:
        _check_feature_map(shape, model)
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()) if model.pooling == "average" else nn.Flatten()
        hidden = build_hidden(model, shape[1] if model.pooling == "average" else math.prod(shape[1:]))
    width = _shape(nn.Sequential(body.backbone, pool, hidden), model, size)[1]
    network = Network(body.backbone, pool, build_head(model, hidden, width, n_classes), size)
    network.closed = freeze(network.backbone, model.freeze)
    return network


def _shape(module: nn.Module, model: ModelParams, size: int) -> tuple[int, ...]:
    """The shape of what a module makes of one picture."""
    try:
        return tuple(dry_run(module, size).shape)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ParamsError(f"image.size: {model.arch} cannot take pictures of {size} x {size} ({reason})") from error


def _check_feature_map(shape: tuple[int, ...], model: ModelParams) -> None:
    """Refuse what cannot be pooled over its places.

    Raises:
        ParamsError: it is a row of tokens, or has its channels last.
    """
    if len(shape) != 4 or shape[2] != shape[3]:
        raise ParamsError(
            f"model.head: {model.arch} has no feature map but {shape} before its pooling; use head: plain"
        )


def build_preprocess(model: ModelParams, image: ImageParams) -> Preprocess:
    """Resolve `auto` mean and std to those that the architecture's weights were trained with."""
    architecture = architecture_of(model.arch)
    return Preprocess(
        size=image.size,
        crop=image.crop,
        center_fraction=image.center_fraction,
        mean=architecture.mean if image.mean == "auto" else image.mean,
        std=architecture.std if image.std == "auto" else image.std,
    )


def dry_run(module: nn.Module, size: int) -> Tensor:
    """Give the output of `module` in eval mode for one picture (1, 3, size, size), on the meta device.

    Raises:
        RuntimeError, AssertionError, ValueError: the module's own words where it cannot take such a picture.
    """
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    on_meta = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    picture_nchw = torch.empty(1, 3, size, size, device="meta")
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            output: Tensor = functional_call(module, on_meta, (picture_nchw,))
    finally:
        module.train(was_training)
    return output
