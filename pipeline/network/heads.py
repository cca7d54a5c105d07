"""The head: the layers after the pooled features, which learn your classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.base.errors import ParamsError
from pipeline.network.params import ModelParams


class Head(nn.Module):
    """Hidden layers, if any, and the layer of the classes, which is the last."""

    def __init__(self, hidden: nn.Sequential, classify: nn.Sequential) -> None:
        super().__init__()
        self.hidden = hidden
        self.classify = classify

    def deep(self, pooled: Tensor) -> Tensor:
        """Map pooled features (batch, channels) to the deep feature (batch, width): the last layer's input undropped.

        Dropout before the last layer belongs to the answer. With it the distances to a centre are about twice as large.
        """
        for layer in list(self.hidden)[: self._n_deep()]:
            pooled = layer(pooled)
        return pooled

    def logits(self, deep: Tensor) -> Tensor:
        """Map the deep feature (batch, width) to logits (batch, classes)."""
        for layer in list(self.hidden)[self._n_deep() :]:
            deep = layer(deep)
        logits: Tensor = self.classify(deep)
        return logits

    def forward(self, pooled: Tensor) -> Tensor:
        """Map pooled features (batch, channels) to logits (batch, classes)."""
        return self.logits(self.deep(pooled))

    def _n_deep(self) -> int:
        """Return how many hidden layers there are up to the last that is no dropout."""
        return max((i for i, layer in enumerate(self.hidden, start=1) if not isinstance(layer, nn.Dropout)), default=0)


def build_hidden(model: ModelParams, channels: int) -> nn.Sequential:
    """Build the hidden layers of `head: fc`: one per entry of `fc_widths`, followed by ReLU and dropout.

    `head: linear` has none. Study 000's FC1-FC2-FC3 are two hidden layers and the layer of the classes.
    """
    layers: list[nn.Module] = []
    widths = model.fc_widths if model.head == "fc" else ()
    for width, dropout in zip(widths, model.fc_dropouts, strict=False):
        layers += [nn.Linear(channels, width), nn.ReLU(), nn.Dropout(dropout)]
        channels = width
    return nn.Sequential(*layers)


def build_head(model: ModelParams, hidden: nn.Sequential, width: int, n_classes: int) -> Head:
    """Add the layer of the classes after `hidden`: a logit per class, or with `output: sigmoid` one unit for two.

    Args:
        model: the section `model`.
        hidden: the hidden layers, to (batch, width).
        width: of the hidden layers' output.
        n_classes: how many classes there are.

    Raises:
        ParamsError: one unit is asked for, and there are not two classes.
    """
    if model.output == "softmax":
        return Head(hidden, nn.Sequential(nn.Linear(width, n_classes)))
    if n_classes != 2:
        raise ParamsError(f"model.output: sigmoid is for 2 classes; found {n_classes}; use softmax")
    return Head(hidden, nn.Sequential(nn.Linear(width, 1), TwoLogits()))


class TwoLogits(nn.Module):
    """Maps one unit z to the logits (0, z), whose softmax is the sigmoid of z; devices still see two classes."""

    def forward(self, unit: Tensor) -> Tensor:
        """Map (batch, 1) to (batch, 2)."""
        return torch.cat([torch.zeros_like(unit), unit], dim=1)
