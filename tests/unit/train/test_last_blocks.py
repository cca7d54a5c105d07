"""The last blocks of a backbone: cut off where one tensor goes on, and opened."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.base.errors import ParamsError
from pipeline.network.network import Network, build_network
from pipeline.network.params import ModelParams
from pipeline.train.last_blocks import OPEN_SHARE, open_last_blocks

SIZE = 64
MODEL = {
    "weights": "none", "freeze": "all", "head": "linear", "pooling": "average", "fc_widths": [], "fc_dropouts": [],
    "output": "softmax",
}  # fmt: skip
# Residual blocks, inverted residuals with an own batch norm, branches that are cut and joined, and timm's blocks.
ARCHS = ("resnet18", "efficientnet_lite0", "mobilenet_v2", "shufflenet_v2_x0_5", "timm:resnet10t")


def _network(arch: str, **changed: Any) -> Network:
    torch.manual_seed(0)
    return build_network(ModelParams.model_validate({"arch": arch, **MODEL, **changed}), SIZE, 3)


def _layers(module: nn.Module) -> int:
    return sum(isinstance(part, (nn.Conv2d, nn.Linear)) for part in module.modules())


@pytest.mark.parametrize("arch", ARCHS)
def test_the_halves_compute_what_the_whole_computes(arch: str) -> None:
    network = _network(arch)
    n_layers = _layers(network.backbone)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    blocks = open_last_blocks(network)
    pictures_nchw = torch.rand(2, 3, SIZE, SIZE)
    network.eval()
    for half in (blocks.frozen, blocks.opened):
        half.eval()
    with torch.inference_mode():
        maps_nchw = blocks.frozen.embed(pictures_nchw)
        assert torch.equal(blocks.opened(maps_nchw), network(pictures_nchw))
        assert not torch.equal(blocks.opened(maps_nchw + 1), network(pictures_nchw))  # so the maps count
    assert maps_nchw.dim() == 4
    n_open = _layers(blocks.opened.backbone)
    assert OPEN_SHARE * n_layers <= n_open < 0.5 * n_layers
    assert n_open + _layers(blocks.frozen.backbone) == n_layers
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("arch", ARCHS)
def test_exactly_the_last_blocks_and_the_head_learn_as_the_name_of_the_frozen_layer_says(arch: str) -> None:
    network = _network(arch)
    blocks = open_last_blocks(network)
    learning = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    expected = {f"backbone.{name}" for name, _ in blocks.opened.backbone.named_parameters()}
    assert learning == expected | {f"head.{name}" for name, _ in network.head.named_parameters()}
    as_named = _network(arch, freeze=blocks.freeze)
    assert learning == {name for name, parameter in as_named.named_parameters() if parameter.requires_grad}


def test_a_step_moves_the_blocks_and_neither_frozen_weights_nor_statistics() -> None:
    network = _network("efficientnet_lite0")
    blocks = open_last_blocks(network)
    before = copy.deepcopy(network.state_dict())
    network.train()
    blocks.opened.train()
    assert not any(part.training for part in blocks.opened.backbone.modules())
    assert blocks.opened.head.training
    maps_nchw = blocks.frozen.eval().embed(torch.rand(4, 3, SIZE, SIZE)).detach()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    blocks.opened(maps_nchw).square().sum().backward()
    optimizer.step()
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert not [name for name in moved if "running_" in name or "num_batches" in name]
    open_names = {f"backbone.{name}" for name, _ in blocks.opened.backbone.named_parameters()}
    assert {name for name in moved if name.startswith("backbone.")} <= open_names


class _DecidesByValues(nn.Module):
    """A backbone that cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)

    def forward(self, input_nchw: Tensor) -> Tensor:
        features: Tensor = self.convolution(input_nchw)
        return features if features.sum() > 0 else -features


class _ReadsThePictureAtItsEnd(nn.Module):
    """A backbone that is nowhere cut by one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, input_nchw: Tensor) -> Tensor:
        features: Tensor = self.second(self.first(input_nchw)) + input_nchw
        return features


class _ListedBackwards(nn.Module):
    """A backbone whose layers are not listed in the order of its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.second, self.first = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, input_nchw: Tensor) -> Tensor:
        features: Tensor = self.second(self.first(input_nchw))
        return features


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        (_DecidesByValues(), "its forward pass cannot be traced: .*"),
        (_ReadsThePictureAtItsEnd(), "no single tensor leads into its last blocks"),
        (_ListedBackwards(), "its layers are not listed in the order of its forward pass"),
    ],
)
def test_a_network_that_cannot_be_cut_is_refused_in_one_line(backbone: nn.Module, words: str) -> None:
    network = _network("resnet18")
    network.backbone = backbone
    message = rf"^train\.adapt: the last blocks of this network cannot be opened \({words}\); use adapt: head$"
    with pytest.raises(ParamsError, match=message):
        open_last_blocks(network)
