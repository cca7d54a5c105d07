from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from pipeline.base.errors import DataError, ParamsError
from pipeline.network.architectures import NAMED_ARCHITECTURES, architecture_of
from pipeline.network.backbones import build_body
from pipeline.network.network import Network, build_network, build_preprocess
from pipeline.network.params import ImageParams, ModelParams
from pipeline.params import read_params
from tests.support.command import ROOT

DEFAULTS = read_params(ROOT / "params.yaml")


def _model(**changed: Any) -> ModelParams:
    return ModelParams.model_validate(DEFAULTS.model.model_dump() | {"weights": "none"} | changed)


def _network(size: int = 64, n_classes: int = 3, **changed: Any) -> Network:
    return build_network(_model(**changed), size, n_classes)


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


@pytest.mark.parametrize(
    ("arch", "channels"),
    [
        ("alexnet", 256),
        ("densenet121", 1024),
        ("inception_v3", 2048),
        ("mnasnet0_5", 1280),
        ("mobilenet_v3_small", 576),
        ("regnet_y_400mf", 440),
        ("squeezenet1_1", 512),
        ("swin_t", 768),
        ("vgg11_bn", 512),
        ("timm:test_resnet", 96),
        ("timm:test_efficientnet", 256),
    ],
)
def test_another_classifier_is_cut_after_its_last_feature_map(arch: str, channels: int) -> None:
    features = build_body(arch, "none", plain=False).backbone.eval()(torch.zeros(1, 3, 96, 96))
    assert features.shape[:2] == (1, channels)
    assert features.shape[2] == features.shape[3]


@pytest.mark.parametrize("arch", ["densenet121", "shufflenet_v2_x0_5", "timm:test_resnet"])
def test_what_is_cut_and_pooled_is_what_the_published_network_pools(arch: str) -> None:
    torch.manual_seed(0)
    cut = _network(arch=arch).eval()
    torch.manual_seed(0)
    plain = _network(arch=arch, head="plain").eval()
    plain.backbone.load_state_dict(cut.backbone.state_dict())  # the names are the published ones in both
    input_nchw = torch.randn(2, 3, 64, 64)
    assert torch.allclose(cut.embed(input_nchw), plain.embed(input_nchw), atol=1e-5)


def test_a_transformer_of_tokens_has_no_feature_map_but_can_be_had_plain() -> None:
    with pytest.raises(ParamsError, match="vit_b_16 has no feature map before its classifier; use head: plain"):
        _network(arch="vit_b_16", size=224)
    with pytest.raises(ParamsError, match=r"timm:test_vit has no feature map but .*use head: plain"):
        _network(arch="timm:test_vit", size=160)
    assert _network(arch="timm:test_vit", size=160, head="plain")(torch.zeros(2, 3, 160, 160)).shape == (2, 3)


def test_a_feature_map_with_its_channels_last_is_refused() -> None:
    with pytest.raises(ParamsError, match="gives its feature map as NHWC; use head: plain"):
        build_body("timm:swin_tiny_patch4_window7_224", "none", plain=False)


def test_a_plain_network_whose_last_layer_is_a_convolution_is_refused() -> None:
    with pytest.raises(ParamsError, match="last layer of squeezenet1_1 is a convolution; use head: linear"):
        _network(arch="squeezenet1_1", head="plain")


@pytest.mark.parametrize(("arch", "size", "head"), [("small_cnn", 45, "linear"), ("vit_b_16", 96, "plain")])
def test_a_picture_that_a_network_cannot_take_is_refused(arch: str, size: int, head: str) -> None:
    said = rf"image\.size: {arch} cannot take pictures of {size} x {size}"
    with torch.device("meta"), pytest.raises(ParamsError, match=said):
        _network(arch=arch, size=size, head=head)


def test_small_cnn_is_that_of_study_004() -> None:
    network = _network(
        arch="small_cnn", size=150, n_classes=2, head="fc", pooling="flatten", fc_widths=[512], fc_dropouts=[0.0],
        output="sigmoid",
    )  # fmt: skip
    kinds = [type(layer).__name__ for layer in network.backbone.get_submodule("features").children()]
    assert kinds == ["Conv2d", "ReLU", "MaxPool2d"] * 4
    # What Keras counts for these widths at 150 pixels: 3,453,121.
    assert sum(p.numel() for p in network.parameters()) == 3_453_121
    image = ImageParams.model_validate(DEFAULTS.image.model_dump())
    preprocess = build_preprocess(_model(arch="small_cnn"), image)
    assert (preprocess.mean, preprocess.std) == ((0, 0, 0), (1, 1, 1))


def test_small_cnn_has_no_imagenet_weights_and_no_published_classifier() -> None:
    with pytest.raises(ParamsError, match="small_cnn has no ImageNet weights"):
        _network(arch="small_cnn", weights="imagenet")
    with pytest.raises(ParamsError, match="small_cnn has no published classifier"):
        _network(arch="small_cnn", head="plain")


def test_mean_and_std_are_those_of_the_published_weights() -> None:
    image = ImageParams.model_validate(DEFAULTS.image.model_dump())
    assert build_preprocess(_model(arch="regnet_y_400mf"), image).mean == (0.485, 0.456, 0.406)
    assert build_preprocess(_model(arch="timm:test_resnet"), image).mean == (0.5, 0.5, 0.5)
    own = image.model_copy(update={"mean": (0.1, 0.2, 0.3)})
    assert build_preprocess(_model(arch="timm:test_resnet"), own).mean == (0.1, 0.2, 0.3)


def test_timms_weights_out_of_reach_are_one_line_that_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def unreachable(name: str, *, pretrained: bool) -> Any:
        if pretrained:
            raise FileNotFoundError("no connection\nto the hub")
        return create(name, pretrained=False)

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(DataError, match=r"no network to fetch .* those of timm/test_resnet\.r160_in1k") as caught:
        build_body("timm:test_resnet", "imagenet", plain=False)
    assert "\n" not in str(caught.value)


def test_a_plain_network_has_its_published_layers_but_for_the_last() -> None:
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


def test_the_names_of_the_params_are_all_there() -> None:
    said = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert all(
        name in said.replace(", 34, 50, 101, 152", ", resnet34, resnet50, resnet101, resnet152")
        for name in NAMED_ARCHITECTURES
    )
