"""The part after the feature map that learns the person's own classes."""

from __future__ import annotations

from torch import nn

from pipeline.params import ModelParams


def build_head(model: ModelParams, channels: int, n_classes: int) -> nn.Module:
    """Build the head: pooled features (batch, channels) to logits (batch, n_classes).

    `linear` is one layer. `fc` is study 000's FC1-FC2-FC3: hidden layers of `fc_widths` with ReLU and dropout after
    each, then the layer of the classes.
    """
    layers: list[nn.Module] = []
    widths = model.fc_widths if model.head == "fc" else ()
    for width in widths:
        layers += [nn.Linear(channels, width), nn.ReLU(), nn.Dropout(model.dropout)]
        channels = width
    return nn.Sequential(*layers, nn.Linear(channels, n_classes))
