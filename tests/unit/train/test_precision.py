from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pipeline.base.errors import ParamsError
from pipeline.train.precision import build_accelerator, keep_strided_depthwise_in_float32, resolve_precision
from tests.support.fitting_by_hand import train_params


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.strided = nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4)
        self.plain = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.dense = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.one = nn.Conv2d(1, 4, 3, stride=2, padding=1)

    def dtypes(self) -> dict[str, torch.dtype]:
        with torch.autocast("cpu", torch.bfloat16):
            return {
                name: module(torch.zeros(1, module.in_channels, 8, 8)).dtype
                for name, module in self.named_children()
                if isinstance(module, nn.Conv2d)
            }


def test_only_a_depthwise_convolution_with_a_stride_leaves_bf16() -> None:
    network = Network()
    assert set(network.dtypes().values()) == {torch.bfloat16}
    keep_strided_depthwise_in_float32(network)
    bf16 = dict.fromkeys(("plain", "dense", "one"), torch.bfloat16)
    assert network.dtypes() == {"strided": torch.float32, **bf16}


def test_a_convolution_that_does_not_learn_stays_in_bf16_where_it_is_faster() -> None:
    network = Network()
    network.strided.requires_grad_(False)
    keep_strided_depthwise_in_float32(network)
    assert network.dtypes()["strided"] == torch.bfloat16


def test_the_exempt_convolution_computes_as_in_float32_and_keeps_the_names_of_its_weights() -> None:
    network = Network()
    pictures_nchw = torch.randn(2, 4, 8, 8)
    expected = network.strided(pictures_nchw)
    names = list(network.state_dict())
    keep_strided_depthwise_in_float32(network)
    with torch.autocast("cpu", torch.bfloat16):
        actual = network.strided(pictures_nchw)
    assert torch.equal(actual, expected)
    assert list(network.state_dict()) == names
    actual.sum().backward()
    assert network.strided.weight.grad is not None


def test_a_copy_computes_with_its_own_weights() -> None:
    network = Network()
    keep_strided_depthwise_in_float32(network)
    twin = copy.deepcopy(network)
    nn.init.zeros_(network.strided.weight)
    pictures_nchw = torch.randn(2, 4, 8, 8)
    assert not torch.equal(twin.strided(pictures_nchw), network.strided(pictures_nchw))


def test_a_convolution_that_pads_by_itself_still_does() -> None:
    class Padding(nn.Conv2d):
        def forward(self, input_nchw: torch.Tensor) -> torch.Tensor:
            return super().forward(nn.functional.pad(input_nchw, (0, 1, 0, 1)))

    network = nn.Sequential(Padding(4, 4, 3, stride=2, groups=4))
    expected = network(torch.ones(1, 4, 8, 8))
    keep_strided_depthwise_in_float32(network)
    assert torch.equal(network(torch.ones(1, 4, 8, 8)), expected)


@pytest.mark.parametrize(("precision", "name"), [("fp32", "no"), ("bf16", "bf16"), ("fp16", "fp16")])
def test_a_stated_precision_does_not_depend_on_the_processor(precision: str, name: str) -> None:
    assert resolve_precision(precision) == name


@pytest.mark.parametrize(
    ("avx512", "amx", "name"), [(True, False, "bf16"), (False, True, "bf16"), (False, False, "no")]
)
def test_auto_is_bf16_where_the_processor_multiplies_it_in_hardware(
    monkeypatch: pytest.MonkeyPatch, avx512: bool, amx: bool, name: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert resolve_precision("auto") == name


def test_fp16_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ParamsError, match="fp16 needs a GPU; found none; use auto, bf16 or fp32"):
        build_accelerator(train_params(precision="fp16"))
