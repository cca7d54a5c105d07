from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.network.network import Network, build_network
from pipeline.network.params import ModelParams
from pipeline.params import read_params
from pipeline.train.feature_cache import fold_batch_norm
from tests.support.command import ROOT

DEFAULTS = read_params(ROOT / "params.yaml").model.model_dump()


def _network(arch: str, **changed: Any) -> Network:
    torch.manual_seed(0)
    network = build_network(ModelParams.model_validate(DEFAULTS | {"weights": "none", "arch": arch} | changed), 64, 3)
    for part in network.modules():
        if isinstance(part, _BatchNorm):  # as if trained: those of random weights do nothing
            nn.init.uniform_(part.running_mean, -0.1, 0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.1, 0.1)
    return network.eval()


def _n_norms(module: nn.Module) -> int:
    return sum(isinstance(part, _BatchNorm) for part in module.modules())


def _difference(module: nn.Module, folded: nn.Module) -> float:
    """As a share of the features' range."""
    input_nchw = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected: Tensor = module(input_nchw)
        found: Tensor = folded(input_nchw)
    return float((found - expected).abs().max() / (expected.max() - expected.min()))


@pytest.mark.parametrize(
    ("arch", "n_left"),
    [("resnet18", 0), ("mobilenet_v2", 0), ("efficientnet_lite0", 0), ("densenet121", 62), ("vgg16", 0)],
)
def test_the_folded_copy_gives_the_same_features(arch: str, n_left: int) -> None:
    network = _network(arch)
    names, before = list(network.state_dict()), _n_norms(network)
    folded = fold_batch_norm(network.backbone)
    assert _n_norms(folded) == n_left  # DenseNet's norms of several layers' features have no convolution before them
    assert _difference(network.backbone, folded) < 1e-4
    assert list(network.state_dict()) == names
    assert _n_norms(network) == before


def test_a_wrong_fold_would_be_noticed() -> None:
    network = _network("resnet18")
    folded = fold_batch_norm(network.backbone)
    with torch.no_grad():
        next(folded.parameters()).mul_(1.01)
    assert _difference(network.backbone, folded) > 1e-4


def test_batch_norm_that_learns_stays() -> None:
    network = _network("resnet18", freeze={"up_to": "layer3"})
    folded = fold_batch_norm(network.backbone)
    assert _n_norms(folded) == _n_norms(network.backbone.get_submodule("layer4")) == 5
    assert _difference(network.backbone, folded) < 1e-4


class _UsedTwice(nn.Module):
    """A convolution whose output goes on beside its batch norm too."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        nn.init.uniform_(self.norm.weight)

    def forward(self, input_nchw: Tensor) -> Tensor:
        convolved = self.convolution(input_nchw)
        normed: Tensor = self.norm(convolved)
        return normed + convolved


class _DecidesByValues(nn.Module):
    """A forward pass that cannot be followed."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, input_nchw: Tensor) -> Tensor:
        normed: Tensor = self.norm(self.convolution(input_nchw))
        return normed if normed.sum() > 0 else -normed


@pytest.mark.parametrize("kind", [_UsedTwice, _DecidesByValues])
def test_what_must_not_or_cannot_be_folded_is_copied_as_it_is(kind: type[nn.Module]) -> None:
    module = kind().eval().requires_grad_(False)
    folded = fold_batch_norm(module)
    assert folded is not module
    assert _n_norms(folded) == 1
    assert _difference(module, folded) == 0
