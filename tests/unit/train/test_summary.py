from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch

from pipeline.network.network import Network, build_network
from pipeline.network.params import ModelParams
from pipeline.params import read_params
from pipeline.train.summary import summarise
from tests.support.command import ROOT

DEFAULTS = read_params(ROOT / "params.yaml").model.model_dump()


def _network(n_classes: int = 1000, size: int = 224, **changed: Any) -> Network:
    with torch.device("meta"):
        return build_network(ModelParams.model_validate(DEFAULTS | {"weights": "none"} | changed), size, n_classes)


@pytest.mark.parametrize(
    ("arch", "n_parameters", "n_layers", "has_batch_norm", "has_residual"),
    [
        ("vgg16", 138_357_544, 16, False, False),  # study 000's table 2, row by row
        ("vgg19", 143_667_240, 19, False, False),
        ("resnet18", 11_689_512, 18, True, True),
        ("resnet34", 21_797_672, 34, True, True),
        ("resnet50", 25_557_032, 50, True, True),
        ("mobilenet_v2", 3_504_872, 53, True, True),
        ("densenet121", 7_978_856, 121, True, False),
        ("googlenet", 6_624_904, 22, True, False),
    ],
)
def test_a_published_network_has_its_published_numbers(
    arch: str, n_parameters: int, n_layers: int, has_batch_norm: bool, has_residual: bool
) -> None:
    summary = summarise(_network(arch=arch, head="plain", freeze="none"))
    assert (summary.n_parameters, summary.n_layers) == (n_parameters, n_layers)
    assert (summary.has_batch_norm, summary.has_residual) == (has_batch_norm, has_residual)
    assert summary.n_trained_parameters == n_parameters


def test_the_layers_add_up_to_the_whole_and_say_what_learns() -> None:
    summary = summarise(_network(arch="resnet18", freeze={"up_to": "layer4.0"}, head="fc", n_classes=3))
    names = [layer.name for layer in summary.layers]
    assert names == [
        *(f"backbone.{name}" for name in ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")),
        "head.hidden.0", "head.hidden.3", "head.classify.0",
    ]  # fmt: skip
    assert sum(layer.n_parameters for layer in summary.layers) == summary.n_parameters
    assert sum(layer.n_trained_parameters for layer in summary.layers) == summary.n_trained_parameters
    kinds = {layer.name: layer.kind for layer in summary.layers}
    assert kinds["backbone.layer1"] == "2 x BasicBlock"


def test_the_printed_table_has_a_row_for_neighbours_that_learn_alike() -> None:
    summary = summarise(_network(arch="resnet18", freeze={"up_to": "layer4.0"}, head="fc", n_classes=3))
    table = [re.split(r"  +", line) for line in summary.lines()[:-1]]
    assert table == [
        ["layers", "number", "parameters", "learn"],
        ["backbone.conv1 to backbone.layer3", "5", "2,782,784", "none"],
        ["backbone.layer4", "1", "8,393,728", "4,720,640"],
        ["head.hidden.0 to head.classify.0", "3", "164,611", "all"],
    ]
    assert summary.lines()[-1].startswith(f"{summary.n_trained_parameters:,} of {summary.n_parameters:,} parameters")


@pytest.mark.parametrize("arch", ["vgg16", "densenet121", "efficientnet_lite0"])
@pytest.mark.parametrize("freeze", ["all", "none"])
def test_the_printed_table_is_short_and_counts_every_layer(arch: str, freeze: str) -> None:
    summary = summarise(_network(arch=arch, freeze=freeze, size=64))
    rows = [re.split(r"  +", line) for line in summary.lines()[1:-1]]
    assert [row[3] for row in rows] == [{"all": "none", "none": "all"}[freeze], "all"]
    assert sum(int(row[1]) for row in rows) == len(summary.layers)
    assert sum(int(row[2].replace(",", "")) for row in rows) == summary.n_parameters


@pytest.mark.parametrize("arch", ["vgg16", "mobilenet_v2", "efficientnet_lite0", "shufflenet_v2_x0_5", "timm:test_vit"])
def test_a_layer_of_the_backbone_can_be_frozen_by_its_listed_name(arch: str) -> None:
    head, size = ("plain", 160) if "vit" in arch else ("linear", 64)
    listed = [
        layer for layer in summarise(_network(arch=arch, head=head, size=size)).layers if layer.name[:4] == "back"
    ]
    assert len(listed) >= 5
    middle = next(layer for layer in listed[2:] if layer.kind != "ParameterList")
    frozen = summarise(_network(arch=arch, head=head, size=size, freeze={"up_to": middle.name}))
    learns = [layer.n_trained_parameters > 0 for layer in frozen.layers if layer.name[:4] == "back"]
    assert learns == [layer.name != middle.name and listed.index(layer) > listed.index(middle) for layer in listed]


def test_a_summary_becomes_json() -> None:
    value = summarise(_network(arch="resnet18", head="linear", size=64, n_classes=3)).to_json()
    assert json.loads(json.dumps(value)) == value
    assert value["n_trained_parameters"] == 3 * 513
    assert value["layers"][0] == {
        "name": "backbone.conv1", "kind": "Conv2d", "n_parameters": 9408, "n_trained_parameters": 0,
    }  # fmt: skip


def test_summarising_changes_nothing() -> None:
    network = _network(arch="resnet18", size=64)
    network.train()
    modes = [part.training for part in network.modules()]
    summarise(network)
    assert [part.training for part in network.modules()] == modes
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())
