"""The part after the feature map that learns the person's own classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.errors import ParamsError
from pipeline.modelling import ModelParams


def build_head(model: ModelParams, channels: int, n_classes: int) -> nn.Module:
    """Build the head: pooled features (batch, channels) to logits (batch, n_classes).

    `linear` is one layer. `fc` is study 000's FC1-FC2-FC3: hidden layers of `fc_widths` with ReLU and dropout after
    each, then the layer of the classes: a logit for each, or with `output: sigmoid` one unit for two classes.

    Raises:
        ParamsError: one unit is asked for other than two classes.
    """
    layers: list[nn.Module] = []
    widths = model.fc_widths if model.head == "fc" else ()
    for width, dropout in zip(widths, model.fc_dropouts, strict=False):
        layers += [nn.Linear(channels, width), nn.ReLU(), nn.Dropout(dropout)]
        channels = width
    if model.output == "sigmoid":
        if n_classes != 2:
            raise ParamsError(f"model.output: sigmoid is for 2 classes; found {n_classes}; use softmax")
        return nn.Sequential(*layers, nn.Linear(channels, 1), TwoLogits())
    return nn.Sequential(*layers, nn.Linear(channels, n_classes))


class TwoLogits(nn.Module):
    """One unit z to the logits (0, z): their softmax is the sigmoid of z, so devices see two classes as ever."""

    def forward(self, unit: Tensor) -> Tensor:
        """(batch, 1) to (batch, 2)."""
        return torch.cat([torch.zeros_like(unit), unit], dim=1)
