"""Networks for the tests of explanations: random weights, small inputs."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.base.section import read_section
from pipeline.network.heads import Head
from pipeline.network.network import Network, build_network
from pipeline.network.params import ModelParams
from tests.support.command import ROOT

MODEL = read_section(ROOT / "params.yaml", "model", ModelParams)


def network_of(backbone: nn.Module, channels: int) -> Network:
    head = Head(nn.Sequential(), nn.Sequential(nn.Linear(channels, 2)))
    return Network(backbone, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), head, 32).eval()


def built(arch: str, head: str = "linear") -> Network:
    torch.manual_seed(0)
    model = MODEL.model_copy(update={"arch": arch, "weights": "none", "head": head})
    return build_network(model, 64, 2).eval()
