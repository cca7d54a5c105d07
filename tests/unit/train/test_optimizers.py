from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.base.errors import ParamsError
from pipeline.params import read_params
from pipeline.train.optimizers import build_optimizer, build_schedule
from pipeline.train.params import TrainParams
from tests.support.command import ROOT

DEFAULTS = read_params(ROOT / "params.yaml").train.model_dump()


def _params(**changed: Any) -> TrainParams:
    return TrainParams.model_validate(DEFAULTS | {"lr": 1.0, "epochs": 10} | changed)


def _rates(params: TrainParams) -> list[float]:
    optimizer = build_optimizer(params, [("head.weight", nn.Parameter(torch.zeros(1)))])
    schedule = build_schedule(params, optimizer)
    rates = []
    for _ in range(params.epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sgd", torch.optim.SGD),
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
        ("nadam", torch.optim.NAdam),
        ("rmsprop", torch.optim.RMSprop),
    ],
)
def test_an_optimiser_is_torchs_own_with_the_rate_and_decay_of_the_params(name: str, kind: type) -> None:
    optimizer = build_optimizer(
        _params(optimizer=name, weight_decay=0.01), [("head.weight", nn.Parameter(torch.zeros(1)))]
    )
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["lr"] == 1.0
    assert optimizer.param_groups[0]["weight_decay"] == 0.01


def test_sgd_has_its_momentum_and_nesterov() -> None:
    optimizer = build_optimizer(
        _params(optimizer="sgd", momentum=0.8, nesterov=True), [("head.weight", nn.Parameter(torch.zeros(1)))]
    )
    assert optimizer.param_groups[0]["momentum"] == 0.8
    assert optimizer.param_groups[0]["nesterov"]


def test_rmsprop_has_its_alpha_and_steps_as_keras_does_with_rho() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = build_optimizer(_params(optimizer="rmsprop", rmsprop_alpha=0.9, lr=0.01), [("head.weight", weight)])
    assert optimizer.param_groups[0]["alpha"] == 0.9
    mean_square, expected = 0.0, 1.0
    for gradient in (2.0, -1.0, 0.5):
        weight.grad = torch.tensor([gradient])
        optimizer.step()
        mean_square = 0.9 * mean_square + 0.1 * gradient**2
        expected -= 0.01 * gradient / (math.sqrt(mean_square) + 1e-7)
    assert weight.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"name": "constant"}, [1.0] * 10),
        ({"name": "step", "every": 4, "factor": 0.1}, [0.1 ** (epoch // 4) for epoch in range(10)]),
        ({"name": "multistep", "at": [2, 5], "factor": 0.5}, [1.0] * 2 + [0.5] * 3 + [0.25] * 5),
        ({"name": "cosine"}, [(1 + math.cos(math.pi * epoch / 10)) / 2 for epoch in range(10)]),
    ],
)
def test_a_schedule_gives_the_rate_of_every_epoch(schedule: dict[str, Any], expected: list[float]) -> None:
    assert _rates(_params(schedule=schedule)) == pytest.approx(expected)


def test_the_rate_rises_linearly_before_the_schedule_begins() -> None:
    rates = _rates(_params(warmup_epochs=3, schedule={"name": "step", "every": 2, "factor": 0.1}))
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01, 0.001])


NAMES = (
    "backbone.layer1.weight",
    "backbone.layer4.0.weight",
    "backbone.layer4.1.weight",
    "backbone.layer40.weight",
    "head.weight",
)
FACTORS = {"backbone": 0.5, "backbone.layer4": 0.1, "backbone.layer4.1": 0.0}


def _named() -> dict[str, nn.Parameter]:
    return {name: nn.Parameter(torch.ones(1)) for name in NAMES}


def test_the_longest_prefix_of_a_layers_name_has_its_rate() -> None:
    named = _named()
    optimizer = build_optimizer(_params(lr_factors=FACTORS, optimizer="sgd"), named.items())
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert [rates[id(named[name])] for name in NAMES] == [0.5, 0.1, 0.0, 0.5, 1.0]


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw", "nadam", "rmsprop"])
def test_a_step_moves_only_parameters_with_a_rate(kind: str) -> None:
    named = _named()
    factors = {"backbone": 1.0, "head": 0.0}  # every name has a prefix, so that the first group is empty
    optimizer = build_optimizer(_params(lr_factors=factors, optimizer=kind, weight_decay=0.1), named.items())
    assert optimizer.param_groups[0]["lr"] == 1.0
    sum((p.sum() for p in named.values()), torch.zeros(1)).backward()
    optimizer.step()
    assert [name for name in NAMES if named[name].item() == 1] == ["head.weight"]


def test_a_schedule_scales_the_rates_of_all_layers() -> None:
    params = _params(lr_factors={"backbone.layer4": 0.1}, schedule={"name": "step", "every": 1, "factor": 0.5})
    optimizer = build_optimizer(params, _named().items())
    schedule = build_schedule(params, optimizer)
    optimizer.step()
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.5, 0.05])


def test_a_layer_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(ParamsError, match=r"found 'backbone.layr4'.*learns is 'backbone.layer4'"):
        build_optimizer(_params(lr_factors={"backbone.layr4": 0.1}), _named().items())
