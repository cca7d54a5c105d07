"""The section `parity` of `params.yaml`: the gates, and how many golden frames are written."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.base.section import Section, Share


class Fp32Gate(Section):
    """How far float32 on a device may differ from float32 in torch."""

    max_logit_difference: Annotated[float, Field(gt=0)]
    flip_margin: Annotated[float, Field(gt=0)]


class Fp16Gate(Section):
    """How many answers half precision may change."""

    max_flips: Share


class Int8Gate(Section):
    """How much accuracy integers may cost."""

    max_top1_drop: Share
    max_worst_class_drop: Share
    min_class_frames: Annotated[int, Field(ge=1)]


class ParityParams(Section):
    """How far a graph may differ from torch, by the graph's precision."""

    fp32: Fp32Gate
    fp16: Fp16Gate
    int8: Int8Gate
    golden_frames: Annotated[int, Field(ge=1, le=1000)]
    golden_max_side: Annotated[int, Field(ge=1)]
