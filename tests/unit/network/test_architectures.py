from __future__ import annotations

from typing import Any

import pytest
import timm

from pipeline.base.errors import DataError, ParamsError
from pipeline.network.architectures import NAMED_ARCHITECTURES, architecture_of
from pipeline.network.backbones import build_body
from pipeline.network.network import Network, build_network
from pipeline.network.params import ModelParams
from pipeline.params import read_params
from tests.support.command import ROOT

DEFAULTS = read_params(ROOT / "params.yaml").model.model_dump()


def _network(size: int = 64, n_classes: int = 3, **changed: Any) -> Network:
    model = ModelParams.model_validate(DEFAULTS | {"weights": "none"} | changed)
    return build_network(model, size, n_classes)


@pytest.mark.parametrize(
    ("arch", "nearest"),
    [
        ("resnet_18", "'resnet18'"),
        ("vgg_16", "'vgg16'"),
        ("shufflenet_v2", "'shufflenet_v2_"),
        ("timm:test_resnt", "'timm:test_resnet'"),
    ],
)
def test_an_unknown_network_is_refused_with_the_nearest_name(arch: str, nearest: str) -> None:
    with pytest.raises(ParamsError, match=rf"model\.arch: found '{arch}'; the nearest valid name is {nearest}"):
        architecture_of(arch)


def test_a_feature_map_with_its_channels_last_is_refused() -> None:
    with pytest.raises(ParamsError, match="gives its feature map as NHWC; use head: plain"):
        build_body("timm:swin_tiny_patch4_window7_224", "none", plain=False)


def test_a_plain_network_whose_last_layer_is_a_convolution_is_refused() -> None:
    with pytest.raises(ParamsError, match="last layer of squeezenet1_1 is a convolution; use head: linear"):
        _network(arch="squeezenet1_1", head="plain")


def test_small_cnn_has_no_imagenet_weights_and_no_published_classifier() -> None:
    with pytest.raises(ParamsError, match="small_cnn has no ImageNet weights"):
        _network(arch="small_cnn", weights="imagenet")
    with pytest.raises(ParamsError, match="small_cnn has no published classifier"):
        _network(arch="small_cnn", head="plain")


def test_timms_weights_that_cannot_be_fetched_are_one_line_that_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def unreachable(name: str, *, pretrained: bool) -> Any:
        if pretrained:
            raise FileNotFoundError("no connection\nto the hub")
        return create(name, pretrained=False)

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(
        DataError, match=r"weights could not be fetched; name a file with those of timm/test_resnet\.r160_in1k"
    ) as caught:
        build_body("timm:test_resnet", "imagenet", plain=False)
    assert "\n" not in str(caught.value)


def test_params_yaml_lists_every_named_architecture() -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert all(
        name in text.replace(", 34, 50, 101, 152", ", resnet34, resnet50, resnet101, resnet152")
        for name in NAMED_ARCHITECTURES
    )
