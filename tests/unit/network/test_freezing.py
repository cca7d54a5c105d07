from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pipeline.base.errors import ParamsError
from pipeline.network.network import Network, build_network
from pipeline.network.params import ModelParams
from pipeline.params import read_params
from tests.support.command import ROOT

DEFAULTS = read_params(ROOT / "params.yaml").model.model_dump()


def _network(freeze: Any, arch: str = "resnet18") -> Network:
    model = ModelParams.model_validate(DEFAULTS | {"weights": "none", "arch": arch, "freeze": freeze})
    return build_network(model, 64, 3)


def _on_meta(freeze: Any, arch: str) -> Network:
    with torch.device("meta"):
        return _network(freeze, arch)


def _learning(network: Network) -> set[str]:
    """Return the layers of the backbone that have a parameter that learns."""
    return {name.rsplit(".", 1)[0] for name, p in network.backbone.named_parameters() if p.requires_grad}


def test_the_whole_backbone_learns_or_none_of_it() -> None:
    assert _learning(_on_meta("all", "resnet18")) == set()
    assert all(p.requires_grad for p in _on_meta("none", "resnet18").parameters())
    assert all(p.requires_grad for p in _on_meta("all", "resnet18").head.parameters())


@pytest.mark.parametrize("layer", ["layer3", "backbone.layer3"])
def test_a_layer_and_all_before_it_are_frozen(layer: str) -> None:
    network = _on_meta({"up_to": layer}, "resnet18")
    assert {name.split(".")[0] for name in _learning(network)} == {"layer4"}


def test_up_to_a_layer_within_a_block_opens_the_rest_of_the_block() -> None:
    learning = _learning(_on_meta({"up_to": "layer4.1.conv1"}, "resnet18"))
    assert learning == {"layer4.1.bn1", "layer4.1.conv2", "layer4.1.bn2"}


def test_the_last_four_convolutions_of_vgg19_are_its_block_5() -> None:
    assert _learning(_on_meta({"open_convolutions": 4}, "vgg19")) == {f"features.{i}" for i in (28, 30, 32, 34)}


def test_layers_between_and_after_open_convolutions_learn_too() -> None:
    learning = _learning(_on_meta({"open_convolutions": 2}, "efficientnet_lite0"))
    assert learning == {"blocks.6.0.conv_pwl", "blocks.6.0.bn3", "conv_head", "bn2"}


def test_a_layer_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(ParamsError, match=r"model\.freeze\.up_to: found 'layr3'; the nearest layer is 'layer3'"):
        _on_meta({"up_to": "layr3"}, "resnet18")


def test_more_open_convolutions_than_there_are_is_refused() -> None:
    assert len(_learning(_on_meta({"open_convolutions": 16}, "vgg19"))) == 16
    with pytest.raises(ParamsError, match=r"open_convolutions: found 17; the backbone has 16"):
        _on_meta({"open_convolutions": 17}, "vgg19")


def _moved(network: Network) -> set[str]:
    """Return the batch norms whose statistics one pass in training mode changes."""
    norms = {name: part for name, part in network.backbone.named_modules() if isinstance(part, nn.BatchNorm2d)}
    before = {name: (norm.running_mean.clone(), norm.num_batches_tracked.clone()) for name, norm in norms.items()}
    network.train()
    network(torch.randn(4, 3, 64, 64))
    return {
        name
        for name, norm in norms.items()
        if not torch.equal(norm.running_mean, before[name][0]) or norm.num_batches_tracked != before[name][1]
    }


def test_frozen_batch_norm_keeps_its_statistics_in_training_and_open_batch_norm_does_not() -> None:
    assert _moved(_network("all")) == set()
    assert len(_moved(_network("none"))) == 20
    assert {name.split(".")[0] for name in _moved(_network({"up_to": "layer3"}))} == {"layer4"}
    assert len(_moved(_network({"open_convolutions": 1}))) == 1


def test_random_depth_is_off_in_frozen_parts_and_on_in_open_parts() -> None:
    network = _network({"up_to": "features.5"}, "efficientnet_b0").train()
    modes = {
        name.split(".")[1]: part.training
        for name, part in network.backbone.named_modules()
        if type(part).__name__ == "StochasticDepth"
    }
    assert modes == {"2": False, "3": False, "4": False, "5": False, "6": True}
    assert network.head.training
