"""The sections `model` and `image` of `params.yaml`: the network, and the part of a picture that it sees."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.base.section import Positive, SampleBits, Section

Channels = tuple[float, float, float]
Pooling = Literal["average", "flatten"]
Dropout = Annotated[float, Field(ge=0, lt=1)]


class FreezeUpTo(Section):
    """The backbone keeps its weights up to and including a named layer."""

    up_to: Annotated[str, Field(min_length=1)]  # as `pipe train` prints it, for example layer3 or features.12


class OpenConvolutions(Section):
    """The backbone keeps its weights except in its last convolutions and in all layers between and after them."""

    open_convolutions: Annotated[int, Field(ge=1)]


class ModelParams(Section):
    """The network."""

    arch: Annotated[
        str, Field(min_length=1)
    ]  # checked where the network is built, since its name needs torchvision or timm
    weights: str  # imagenet, none, or a path
    freeze: Literal["all", "none"] | FreezeUpTo | OpenConvolutions
    head: Literal["plain", "linear", "fc"]
    pooling: Pooling
    fc_widths: tuple[Annotated[int, Field(ge=1)], ...]
    fc_dropouts: tuple[Dropout, ...]
    output: Literal["softmax", "sigmoid"]

    @model_validator(mode="after")
    def _check_together(self) -> ModelParams:
        if len(self.fc_dropouts) != len(self.fc_widths):
            raise ValueError(
                f"fc_dropouts has {len(self.fc_dropouts)} numbers; expected {len(self.fc_widths)}, as fc_widths"
            )
        if self.head == "plain" and self.pooling != "average":
            raise ValueError("head: plain has its published pooling; set pooling: average")
        return self


class ImageParams(Section):
    """The part of a picture that the network sees, its size, and its normalisation."""

    size: Annotated[int, Field(ge=8, le=4096)]
    crop: Literal["squash", "center"]
    center_fraction: Annotated[float, Field(gt=0, le=1)]
    mean: Literal["auto"] | Channels
    std: Literal["auto"] | tuple[Positive, Positive, Positive]
    sample_bits: SampleBits | None
