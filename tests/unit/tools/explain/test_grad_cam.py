"""Heat maps are warm where the network has to look, and nowhere warm if nothing speaks for the class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.base.errors import DataError
from pipeline.network.heads import Head
from pipeline.network.network import Network
from pipeline.tools.explain.grad_cam import as_maps, heat_map, last_spatial_layer
from tests.support.explained_networks import built, network_of


def brightness(sign: float) -> Network:
    """Class 0 is bright, class 1 is dark (with `sign` 1): a convolution that averages, and a head that weighs it."""
    convolution = nn.Conv2d(3, 1, 3, padding=1)
    network = network_of(nn.Sequential(convolution, nn.ReLU(inplace=True)), 1)
    with torch.no_grad():
        convolution.weight.fill_(1 / 27)
        convolution.bias.zero_()
        network.head.classify[0].weight.copy_(torch.tensor([[sign], [-sign]]))
    return network.requires_grad_(False)  # as a frozen one is


def spot(top: int, left: int) -> Tensor:
    """A dark picture with a bright square of 8 pixels."""
    input_nchw = torch.zeros(1, 3, 32, 32)
    input_nchw[:, :, top : top + 8, left : left + 8] = 1
    return input_nchw


@pytest.mark.parametrize(("top", "left"), [(0, 0), (0, 24), (24, 0), (24, 24)])
def test_the_heat_lies_in_the_corner_of_the_bright_square(top: int, left: int) -> None:
    heat_hw = heat_map(brightness(1.0), spot(top, left), 0)
    assert heat_hw.shape == (32, 32)
    assert heat_hw.max() == pytest.approx(1.0)
    inside = heat_hw[max(0, top - 1) : top + 9, max(0, left - 1) : left + 9]
    assert inside.sum() == pytest.approx(heat_hw.sum())
    assert inside.mean() > 0.5


def test_what_speaks_for_another_class_gives_no_heat() -> None:
    assert not heat_map(brightness(1.0), spot(0, 0), 1).any()
    assert heat_map(brightness(-1.0), spot(0, 0), 1).any()


@pytest.mark.parametrize(
    ("arch", "head"),
    [
        ("small_cnn", "linear"),
        ("resnet18", "plain"),
        ("mobilenet_v2", "linear"),
        ("efficientnet_lite0", "plain"),
        ("timm:convnext_atto", "plain"),
        ("timm:vit_tiny_patch16_224", "plain"),
    ],
)
def test_every_kind_of_backbone_can_be_explained(arch: str, head: str) -> None:
    size = 224 if "vit" in arch else 64
    network = built(arch, head) if size == 64 else vit()
    heat_hw = heat_map(network, torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)), 0)
    assert heat_hw.shape == (size, size)
    assert np.isfinite(heat_hw).all()
    assert heat_hw.min() >= 0
    assert heat_hw.max() <= 1


def vit() -> Network:
    import timm

    torch.manual_seed(0)
    backbone = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0)
    return Network(backbone, nn.Identity(), Head(nn.Sequential(), nn.Sequential(nn.Linear(192, 2))), 224).eval()


def test_the_last_spatial_layer_is_the_last_map_or_the_tokens_before_the_last_attention() -> None:
    network = built("resnet18").requires_grad_()
    picture = torch.randn(1, 3, 64, 64)
    assert last_spatial_layer(network, picture, 0) in (network.backbone, network.backbone.layer4)
    transformer = vit().requires_grad_()
    layer = last_spatial_layer(transformer, torch.randn(1, 3, 224, 224), 0)
    assert layer is transformer.backbone.blocks[-1].norm1


def test_tokens_and_channels_that_come_last_are_laid_out_as_maps() -> None:
    maps_nchw = torch.arange(4 * 9.0).view(1, 4, 3, 3)
    tokens = maps_nchw.flatten(2).transpose(1, 2)
    with_class = torch.cat([torch.full((1, 1, 4), -1.0), tokens], dim=1)
    for laid in (maps_nchw, maps_nchw.permute(0, 2, 3, 1), tokens, with_class):
        assert torch.equal(as_maps(laid), maps_nchw)


def test_a_network_without_positions_is_refused() -> None:
    network = Network(nn.Flatten(), nn.Identity(), Head(nn.Sequential(), nn.Sequential(nn.Linear(48, 2))), 4).eval()
    with pytest.raises(DataError, match="no layer with both positions and gradients"):
        heat_map(network, torch.randn(1, 3, 4, 4), 0)
