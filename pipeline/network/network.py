"""The whole network: backbone, pooling and head, built as the sections `model` and `image` say."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pipeline.base.errors import ParamsError
from pipeline.network.architectures import Body, architecture_of
from pipeline.network.backbones import build_body
from pipeline.network.freezing import freeze
from pipeline.network.heads import Head, build_head, build_hidden
from pipeline.network.params import ImageParams, ModelParams
from pipeline.network.preprocess import Preprocess

_LARGEST_REAL_PICTURE = 320  # pixels of a side


class Network(nn.Module):
    """Backbone, pooling and head."""

    def __init__(self, backbone: nn.Module, pool: nn.Module, head: Head, size: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.pool = pool
        self.head = head
        self.size = size  # height and width of the input, pixels
        self.frozen_parts: tuple[nn.Module, ...] = ()  # of the backbone

    def embed(self, input_nchw: Tensor) -> Tensor:
        """Map input (batch, 3, size, size) to pooled features (batch, channels)."""
        features: Tensor = self.pool(self.backbone(input_nchw))
        return features

    def forward(self, input_nchw: Tensor) -> Tensor:
        """Map input (batch, 3, size, size) to logits (batch, classes)."""
        logits: Tensor = self.head(self.embed(input_nchw))
        return logits

    def train(self, mode: bool = True) -> Network:
        """Set the mode. Frozen parts stay in eval mode: batch norm keeps its statistics, and dropout is off."""
        super().train(mode)
        for part in self.frozen_parts:
            part.training = False
        return self


def build_network(model: ModelParams, size: int, n_classes: int) -> Network:
    """Build a network with its first weights, frozen as `model.freeze` says.

    Args:
        model: the section `model`.
        size: height and width of the input, pixels.
        n_classes: how many classes the head tells apart.

    Raises:
        ParamsError: the network or layer is not known, or does not go with this head or size.
        DataError: the weights do not fit (see `build_body`).
    """
    body = build_body(model.arch, model.weights, plain=model.head == "plain", pooling=model.pooling, size=size)
    pool, hidden = _pool_and_hidden(body, model, size)
    width = _shape(nn.Sequential(body.backbone, pool, hidden), model, size)[1]
    head = build_head(model, hidden, width, n_classes)
    architecture_of(model.arch).start_head(head)
    network = Network(body.backbone, pool, head, size)
    network.frozen_parts = freeze(network.backbone, model.freeze)
    return network


def _pool_and_hidden(body: Body, model: ModelParams, size: int) -> tuple[nn.Module, nn.Sequential]:
    """Return the pooling to (batch, features), and the head's layers before its last; both may be the published ones.

    Raises:
        ParamsError: the network has no feature map that could be pooled.
    """
    pool: nn.Module
    if body.feature_map is not None:
        shape = _shape(body.feature_map, model, size)
        _check_feature_map(shape, model)
        if body.pool is None:
            pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()) if model.pooling == "average" else nn.Flatten()
            return pool, build_hidden(model, shape[1] if model.pooling == "average" else math.prod(shape[1:]))
    pool = body.pool or nn.Identity()
    if model.head == "plain":
        return pool, body.hidden
    return pool, build_hidden(model, _shape(body.backbone, model, size)[1])


def _shape(module: nn.Module, model: ModelParams, size: int) -> tuple[int, ...]:
    """Return the shape of a module's output for one picture."""
    try:
        return tuple(dry_run(module, size).shape)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ParamsError(f"image.size: {model.arch} cannot take pictures of {size} x {size} ({reason})") from error


def _check_feature_map(shape: tuple[int, ...], model: ModelParams) -> None:
    """Refuse an output that is no feature map, and so cannot be pooled.

    Raises:
        ParamsError: the output is a row of tokens, or has its channels last.
    """
    if len(shape) != 4 or shape[2] != shape[3]:
        raise ParamsError(
            f"model.head: {model.arch} has no feature map but {shape} before its pooling; use head: plain"
        )


def build_preprocess(model: ModelParams, image: ImageParams) -> Preprocess:
    """Build the preprocessing; `auto` mean and std are those that the published weights were trained with."""
    architecture = architecture_of(model.arch)
    return Preprocess(
        size=image.size,
        crop=image.crop,
        center_fraction=image.center_fraction,
        mean=architecture.mean if image.mean == "auto" else image.mean,
        std=architecture.std if image.std == "auto" else image.std,
    )


def dry_run(module: nn.Module, size: int) -> Tensor:
    """Return the output of `module` in eval mode for one black picture (1, 3, size, size).

    A large picture goes through the module on the meta device, where it takes neither time nor memory. A small one goes
    through it for real: that is faster than importing torch's arithmetic of shapes, which takes a second.

    Raises:
        RuntimeError, AssertionError, ValueError: the module cannot take such a picture; the message is its own.
    """
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    is_real = size <= _LARGEST_REAL_PICTURE and not any(tensor.is_meta for tensor in tensors.values())
    device = next(iter(tensors.values()), torch.empty(0)).device if is_real else torch.device("meta")
    picture_nchw = torch.zeros(1, 3, size, size, device=device)
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            output: Tensor = functional_call(module, {} if is_real else _on_meta(tensors), picture_nchw)
    finally:
        module.train(was_training)
    return output


def _on_meta(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
