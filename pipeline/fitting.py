"""The losses and schedules that `train` can be told to use: their names and numbers in `params.yaml`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.section import Positive, Section


class CrossEntropyLoss(Section):
    """-log p of the truth."""

    name: Literal["cross_entropy"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    balanced: bool  # whether rare classes weigh more, so that all weigh alike


class FocalLoss(Section):
    """-(1 - p)^gamma log p of the truth."""

    name: Literal["focal"]
    gamma: Annotated[float, Field(ge=0)]
    alpha: tuple[Positive, ...] | None  # a weight per class, in the order of their names


class BinaryCrossEntropyLoss(Section):
    """That of one sigmoid unit, for two classes."""

    name: Literal["binary_cross_entropy"]


LossParams = Annotated[CrossEntropyLoss | FocalLoss | BinaryCrossEntropyLoss, Field(discriminator="name")]


class ConstantSchedule(Section):
    """One rate for all epochs."""

    name: Literal["constant"]


class StepSchedule(Section):
    """lr x factor^floor(epoch / every)."""

    name: Literal["step"]
    every: Annotated[int, Field(ge=1)]  # epochs
    factor: Positive


class MultiStepSchedule(Section):
    """lr x factor after each of some epochs."""

    name: Literal["multistep"]
    at: tuple[Annotated[int, Field(ge=1)], ...]  # epochs
    factor: Positive


class CosineSchedule(Section):
    """Half a cosine from lr down to 0 at the last epoch."""

    name: Literal["cosine"]


ScheduleParams = Annotated[
    ConstantSchedule | StepSchedule | MultiStepSchedule | CosineSchedule, Field(discriminator="name")
]
