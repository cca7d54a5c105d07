from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pipeline.base.errors import ParamsError
from pipeline.network.backbones import build_body
from pipeline.network.network import Network, build_network
from pipeline.network.params import ModelParams
from pipeline.params import read_params
from tests.support.command import ROOT

DEFAULTS = read_params(ROOT / "params.yaml")


def _network(size: int = 64, n_classes: int = 3, **changed: Any) -> Network:
    model = ModelParams.model_validate(DEFAULTS.model.model_dump() | {"weights": "none"} | changed)
    return build_network(model, size, n_classes)


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
    features = build_body(arch, "none", plain=False, pooling="flatten").backbone.eval()(torch.zeros(1, 3, 96, 96))
    assert features.shape[:2] == (1, channels)
    assert features.shape[2] == features.shape[3]


@pytest.mark.parametrize("arch", ["densenet121", "shufflenet_v2_x0_5", "timm:test_resnet"])
def test_a_cut_network_pools_what_the_published_network_pools(arch: str) -> None:
    torch.manual_seed(0)
    cut = _network(arch=arch).eval()
    torch.manual_seed(0)
    plain = _network(arch=arch, head="plain").eval()
    plain.backbone.load_state_dict(cut.backbone.state_dict())  # the names are the published ones in both
    input_nchw = torch.randn(2, 3, 64, 64)
    assert torch.allclose(cut.embed(input_nchw), plain.embed(input_nchw), atol=1e-5)


def test_a_transformer_of_tokens_has_no_feature_map_but_works_plain() -> None:
    with pytest.raises(ParamsError, match="vit_b_16 has no feature map before its classifier; use head: plain"):
        _network(arch="vit_b_16", size=224)
    with pytest.raises(ParamsError, match=r"timm:test_vit has no feature map but .*use head: plain"):
        _network(arch="timm:test_vit", size=160)
    assert _network(arch="timm:test_vit", size=160, head="plain")(torch.zeros(2, 3, 160, 160)).shape == (2, 3)


def test_small_cnn_has_the_layers_and_parameters_of_study_004() -> None:
    network = _network(
        arch="small_cnn", size=150, n_classes=2, head="fc", pooling="flatten", fc_widths=[512], fc_dropouts=[0.0],
        output="sigmoid",
    )  # fmt: skip
    kinds = [type(layer).__name__ for layer in network.backbone.get_submodule("features").children()]
    assert kinds == ["Conv2d", "ReLU", "MaxPool2d"] * 4
    # What Keras counts for these widths at 150 pixels: 3,453,121.
    assert sum(p.numel() for p in network.parameters()) == 3_453_121


def test_small_cnn_starts_as_keras_starts_it_and_others_do_not() -> None:
    options: dict[str, Any] = {"n_classes": 2, "head": "fc", "fc_widths": [64], "fc_dropouts": [0.0]}
    layers = _layers(_network(arch="small_cnn", pooling="flatten", output="sigmoid", **options))
    assert len(layers) == 6
    for layer in layers:
        fan_out, fan_in = layer.weight.shape[0] * layer.weight[0, 0].numel(), layer.weight[0].numel()
        bound = (6 / (fan_in + fan_out)) ** 0.5
        assert layer.weight.abs().max() <= bound
        assert layer.weight.abs().max() > 0.9 * bound or layer.weight.numel() < 100
        assert layer.bias is not None
        assert not layer.bias.any()
    assert all(layer.bias is None or layer.bias.any() for layer in _layers(_network(arch="resnet18", **options)))


def _layers(network: Network) -> list[nn.Conv2d | nn.Linear]:
    return [part for part in network.modules() if isinstance(part, (nn.Conv2d, nn.Linear))]
