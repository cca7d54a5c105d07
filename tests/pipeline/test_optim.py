from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from command import ROOT
from pydantic import ValidationError
from torch import nn

from pipeline.fitting import TrainParams
from pipeline.optim import build_optimizer, build_schedule
from pipeline.params import read_params

DEFAULTS = read_params(ROOT / "params.yaml").train.model_dump()


def _params(**changed: Any) -> TrainParams:
    return TrainParams.model_validate(DEFAULTS | {"lr": 1.0, "epochs": 10} | changed)


def _rates(params: TrainParams) -> list[float]:
    optimizer = build_optimizer(params, [nn.Parameter(torch.zeros(1))])
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
    optimizer = build_optimizer(_params(optimizer=name, weight_decay=0.01), [nn.Parameter(torch.zeros(1))])
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["lr"] == 1.0
    assert optimizer.param_groups[0]["weight_decay"] == 0.01


def test_sgd_has_its_momentum_and_nesterov() -> None:
    optimizer = build_optimizer(_params(optimizer="sgd", momentum=0.8, nesterov=True), [nn.Parameter(torch.zeros(1))])
    assert optimizer.param_groups[0]["momentum"] == 0.8
    assert optimizer.param_groups[0]["nesterov"]


def test_nesterov_without_sgd_is_refused() -> None:
    with pytest.raises(ValidationError, match="nesterov needs optimizer: sgd"):
        _params(optimizer="adam", nesterov=True)


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


def test_a_warm_up_as_long_as_the_training_is_refused() -> None:
    with pytest.raises(ValidationError, match="expected fewer than the 10 epochs"):
        _params(warmup_epochs=10)
