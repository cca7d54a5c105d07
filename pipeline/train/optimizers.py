"""Torch's optimisers and learning-rate schedules, by the names of the params."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from pipeline.base.errors import ParamsError, nearest
from pipeline.train.params import CosineSchedule, MultiStepSchedule, StepSchedule, TrainParams


def build_optimizer(params: TrainParams, named_parameters: Iterable[tuple[str, nn.Parameter]]) -> Optimizer:
    """Build torch's optimiser over parameters by their names in the network.

    `train.momentum` is for SGD only, `train.rmsprop_alpha` for RMSprop only.

    The first group has the rate `params.lr`. Every prefix of `params.lr_factors` makes a group with that rate times
    its factor.

    Raises:
        ParamsError: a prefix begins the name of no parameter.
    """
    groups = _groups(params, dict(named_parameters))
    lr, weight_decay = params.lr, params.weight_decay
    match params.optimizer:
        case "sgd":
            return torch.optim.SGD(
                groups, lr, momentum=params.momentum, nesterov=params.nesterov, weight_decay=weight_decay
            )
        case "adam":
            return torch.optim.Adam(groups, lr, weight_decay=weight_decay)
        case "adamw":
            return torch.optim.AdamW(groups, lr, weight_decay=weight_decay)
        case "nadam":
            return torch.optim.NAdam(groups, lr, weight_decay=weight_decay)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr, alpha=params.rmsprop_alpha, weight_decay=weight_decay)


def _groups(params: TrainParams, parameters: dict[str, nn.Parameter]) -> list[dict[str, Any]]:
    """Return a group at `params.lr`, which may be empty, and one per prefix; a parameter joins its longest prefix."""
    layers = sorted({name.rsplit(".", n)[0] for name in parameters for n in range(name.count(".") + 1)})
    for prefix in params.lr_factors:
        if prefix not in layers:
            raise ParamsError(
                f"train.lr_factors: found {prefix!r}, where nothing learns; "
                f"the nearest layer that learns is {nearest(prefix, layers)!r}"
            )
    members: dict[str, list[nn.Parameter]] = {prefix: [] for prefix in ("", *params.lr_factors)}
    for name, parameter in parameters.items():
        fitting = [prefix for prefix in params.lr_factors if f"{name}.".startswith(f"{prefix}.")]
        members[max(fitting, key=len, default="")].append(parameter)
    factors = {"": 1.0, **params.lr_factors}
    return [{"params": members[prefix], "lr": params.lr * factors[prefix]} for prefix in members]


def build_schedule(params: TrainParams, optimizer: Optimizer) -> lr_scheduler.LRScheduler:
    """Build the schedule, which is stepped once after each epoch; a linear warm-up, if any, comes first."""
    schedule = _schedule(params, optimizer)
    if not params.warmup_epochs:
        return schedule
    # The rates of the warm-up's n epochs are 1/(n+1), 2/(n+1), … n/(n+1) of the full rate.
    first_factor = 1 / (params.warmup_epochs + 1)
    warmup = lr_scheduler.LinearLR(optimizer, first_factor, 1.0, total_iters=params.warmup_epochs)
    return lr_scheduler.SequentialLR(optimizer, [warmup, schedule], milestones=[params.warmup_epochs])


def _schedule(params: TrainParams, optimizer: Optimizer) -> lr_scheduler.LRScheduler:
    match params.schedule:
        case StepSchedule(every=every, factor=factor):
            return lr_scheduler.StepLR(optimizer, every, factor)
        case MultiStepSchedule(at=at, factor=factor):
            return lr_scheduler.MultiStepLR(optimizer, list(at), factor)
        case CosineSchedule():
            return lr_scheduler.CosineAnnealingLR(optimizer, params.epochs - params.warmup_epochs)
        case _:
            return lr_scheduler.ConstantLR(optimizer, factor=1.0)
