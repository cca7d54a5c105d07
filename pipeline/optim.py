"""How weights move: torch's optimisers and schedules by the names of the params."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from pipeline.fitting import CosineSchedule, MultiStepSchedule, StepSchedule, TrainParams


def build_optimizer(params: TrainParams, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Torch's optimiser over `parameters`; momentum is that of SGD, the others have their own."""
    lr, weight_decay = params.lr, params.weight_decay
    match params.optimizer:
        case "sgd":
            return torch.optim.SGD(
                parameters, lr, momentum=params.momentum, nesterov=params.nesterov, weight_decay=weight_decay
            )
        case "adam":
            return torch.optim.Adam(parameters, lr, weight_decay=weight_decay)
        case "adamw":
            return torch.optim.AdamW(parameters, lr, weight_decay=weight_decay)
        case "nadam":
            return torch.optim.NAdam(parameters, lr, weight_decay=weight_decay)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, lr, weight_decay=weight_decay)


def build_schedule(params: TrainParams, optimizer: Optimizer) -> lr_scheduler.LRScheduler:
    """The rate by epoch, stepped once after each; a linear warm-up, if any, comes before the schedule."""
    schedule = _schedule(params, optimizer)
    if not params.warmup_epochs:
        return schedule
    # The rates of the warm-up's epochs: 1/(n+1), 2/(n+1), … n/(n+1) of the full one.
    first = 1 / (params.warmup_epochs + 1)
    warmup = lr_scheduler.LinearLR(optimizer, first, 1.0, total_iters=params.warmup_epochs)
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
