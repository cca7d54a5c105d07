from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pipeline.base.errors import ParamsError
from pipeline.network.network import Network, build_network, build_preprocess, dry_run
from pipeline.network.params import ModelParams
from pipeline.network.preprocess import Preprocess
from pipeline.params import read_params
from tests.support.command import ROOT

DEFAULTS = read_params(ROOT / "params.yaml")


def _network(size: int = 64, n_classes: int = 3, **changed: Any) -> Network:
    model = ModelParams.model_validate(DEFAULTS.model.model_dump() | {"weights": "none"} | changed)
    return build_network(model, size, n_classes)


@pytest.mark.parametrize(("arch", "size", "head"), [("small_cnn", 45, "linear"), ("vit_b_16", 96, "plain")])
def test_a_picture_that_a_network_cannot_take_is_refused(arch: str, size: int, head: str) -> None:
    message = rf"image\.size: {arch} cannot take pictures of {size} x {size}"
    with torch.device("meta"), pytest.raises(ParamsError, match=message):
        _network(arch=arch, size=size, head=head)


def _preprocess(arch: str, **changed: Any) -> Preprocess:
    model = DEFAULTS.model.model_copy(update={"arch": arch})
    return build_preprocess(model, DEFAULTS.image.model_copy(update=changed))


def test_mean_and_std_are_those_of_the_published_weights() -> None:
    assert _preprocess("regnet_y_400mf").mean == (0.485, 0.456, 0.406)
    assert _preprocess("timm:test_resnet").mean == (0.5, 0.5, 0.5)
    assert _preprocess("timm:test_resnet", mean=(0.1, 0.2, 0.3)).mean == (0.1, 0.2, 0.3)
    small_cnn = _preprocess("small_cnn")  # study 004 only scales pixels to [0, 1]
    assert (small_cnn.mean, small_cnn.std) == ((0, 0, 0), (1, 1, 1))


def test_a_plain_network_has_all_its_published_layers_except_the_last() -> None:
    with torch.device("meta"):
        vgg, mobile, resnet = (
            _network(arch=arch, head="plain", size=224) for arch in ("vgg16", "mobilenet_v2", "resnet18")
        )
    assert [type(layer).__name__ for layer in vgg.head.hidden] == ["Linear", "ReLU", "Dropout"] * 2
    assert vgg.head.classify[0].weight.shape == (3, 4096)
    assert [type(layer).__name__ for layer in mobile.head.hidden] == ["Dropout"]
    assert mobile.head.classify[0].weight.shape == (3, 1280)
    assert len(resnet.head.hidden) == 0
    assert resnet.head.classify[0].weight.shape == (3, 512)


def test_a_network_is_pooling_and_head_on_its_backbone() -> None:
    network = _network(arch="resnet18", head="linear", pooling="average").eval()
    input_nchw = torch.randn(2, 3, 64, 64)
    pooled = network.embed(input_nchw)
    assert torch.allclose(pooled, network.backbone(input_nchw).mean(dim=(2, 3)))
    assert torch.equal(network(input_nchw), network.head(pooled))


def test_flattening_keeps_the_cells_of_the_feature_map_apart() -> None:
    with torch.device("meta"):
        network = _network(arch="resnet18", head="linear", pooling="flatten")
    assert network.head.classify[0].weight.shape == (3, 512 * 2 * 2)


@pytest.mark.parametrize(("size", "device"), [(10, "cpu"), (400, "meta")])
def test_a_dry_run_gives_the_shape_and_changes_nothing(size: int, device: str) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    output = dry_run(module, size)
    assert output.shape == (1, 8, size - 2, size - 2)
    assert output.device.type == device
    assert module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
