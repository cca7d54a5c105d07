"""The part after the pooled features that learns the person's own classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.base.errors import ParamsError
from pipeline.network.params import ModelParams


class Head(nn.Module):
    """Hidden layers, if any, and the layer of the classes."""

    def __init__(self, hidden: nn.Sequential, classify: nn.Sequential) -> None:
        super().__init__()
        self.hidden = hidden
        self.classify = classify

    def deep(self, pooled: Tensor) -> Tensor:
        """Pooled features (batch, channels) to the deep feature (batch, width), the last layer's input."""
        deep: Tensor = self.hidden(pooled)
        return deep

    def forward(self, pooled: Tensor) -> Tensor:
        """Pooled features (batch, channels) to logits (batch, classes)."""
        logits: Tensor = self.classify(self.deep(pooled))
        return logits


def build_hidden(model: ModelParams, channels: int) -> nn.Sequential:
    """Build the hidden layers of `head: fc`, each of `fc_widths` with ReLU and dropout after it; of `linear`, none.

    Study 000's FC1-FC2-FC3 are two of them and the layer of the classes.
    """
    layers: list[nn.Module] = []
    widths = model.fc_widths if model.head == "fc" else ()
    for width, dropout in zip(widths, model.fc_dropouts, strict=False):
        layers += [nn.Linear(channels, width), nn.ReLU(), nn.Dropout(dropout)]
        channels = width
    return nn.Sequential(*layers)


def build_head(model: ModelParams, hidden: nn.Sequential, width: int, n_classes: int) -> Head:
    """Put the layer of the classes after `hidden`, which gives (batch, width): a logit for each, or with
    `output: sigmoid` one unit for two classes.

    Raises:
        ParamsError: one unit is asked for other than two classes.
    """
    if model.output == "softmax":
        return Head(hidden, nn.Sequential(nn.Linear(width, n_classes)))
    if n_classes != 2:
        raise ParamsError(f"model.output: sigmoid is for 2 classes; found {n_classes}; use softmax")
    return Head(hidden, nn.Sequential(nn.Linear(width, 1), TwoLogits()))


class TwoLogits(nn.Module):
    """One unit z to the logits (0, z): their softmax is the sigmoid of z, so devices see two classes as ever."""

    def forward(self, unit: Tensor) -> Tensor:
        """(batch, 1) to (batch, 2)."""
        return torch.cat([torch.zeros_like(unit), unit], dim=1)
