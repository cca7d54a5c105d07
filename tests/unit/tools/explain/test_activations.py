"""Maps of convolutions and poolings, after the normalisation and activation directly behind them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pipeline.base.errors import ParamsError
from pipeline.tools.explain.activations import all_maps, find_convolution, maps_of_layer
from tests.support.explained_networks import built, network_of

INPUT = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    """Writes into its own tensors, as torchvision's blocks do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(inplace=True)

    def forward(self, input_nchw: Tensor) -> Tensor:
        out = self.norm(self.conv(input_nchw))
        out += input_nchw
        return self.relu(out)


def test_a_convolution_is_shown_with_its_normalisation_and_activation() -> None:
    conv, norm, relu, pool = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2)
    norm.train()(conv(INPUT))
    network = network_of(nn.Sequential(conv, norm, relu, pool), 4)
    first, second = all_maps(network, INPUT)
    with torch.no_grad():
        expected = norm(conv(INPUT)).relu()
        assert torch.equal(first.maps_nchw, expected)
        assert torch.equal(second.maps_nchw, pool(expected))
        assert not torch.equal(first.maps_nchw, conv(INPUT))  # the negative control
    assert [(maps.layer, maps.kind) for maps in (first, second)] == [
        ("backbone.0", "Conv2d"),
        ("backbone.3", "MaxPool2d"),
    ]


def test_what_is_written_over_a_layers_output_later_is_not_taken_for_it() -> None:
    network = network_of(Residual(), 3)
    (maps,) = all_maps(network, INPUT)
    part = network.backbone
    with torch.no_grad():
        assert torch.equal(maps.maps_nchw, part.norm(part.conv(INPUT)))
        assert not torch.equal(maps.maps_nchw, part(INPUT))


@pytest.mark.parametrize(("arch", "n_maps"), [("small_cnn", 8), ("resnet18", 21), ("timm:convnext_atto", 40)])
def test_every_convolution_and_pooling_is_found_in_the_order_of_computation(arch: str, n_maps: int) -> None:
    network = built(arch)
    layers = all_maps(network, torch.zeros(1, 3, 64, 64))
    names = [maps.layer for maps in layers]
    assert len(names) == len(set(names)) == n_maps
    sides = [maps.maps_nchw.shape[2] for maps in layers if "downsample" not in maps.layer]
    assert sides == sorted(sides, reverse=True)


def test_an_output_with_a_single_position_is_no_map() -> None:
    network = network_of(nn.Sequential(nn.Conv2d(3, 4, 32), nn.ReLU()), 4)
    assert all_maps(network, INPUT) == []


def test_one_layer_alone_gives_the_same_and_nothing_behind_it_is_computed() -> None:
    network = built("resnet18")
    behind = []
    network.backbone.layer2.register_forward_hook(lambda *_: behind.append(1))
    alone = maps_of_layer(network, "backbone.layer1.0.conv2", torch.ones(1, 3, 64, 64).requires_grad_())
    assert not behind
    (same,) = [maps for maps in all_maps(network, torch.ones(1, 3, 64, 64)) if maps.layer == "backbone.layer1.0.conv2"]
    assert torch.equal(alone.detach(), same.maps_nchw)
    assert behind
    assert alone.requires_grad


def test_the_last_layer_of_a_network_can_be_asked_for_too() -> None:
    network = network_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), 4)
    assert maps_of_layer(network, "backbone.0", INPUT).min() == 0


def test_a_convolution_is_found_by_its_name_with_and_without_its_prefix() -> None:
    network = built("small_cnn")
    for name in ("backbone.features.conv2", "features.conv2"):
        assert find_convolution(network, name) == "backbone.features.conv2"
    for name in ("features.conv9", "features.pool1", ""):
        with pytest.raises(ParamsError, match=r"no convolution; the nearest is 'backbone\.features\."):
            find_convolution(network, name)
