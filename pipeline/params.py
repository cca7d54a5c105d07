"""All of `params.yaml`: the sections of every room together, for recipes and studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.augment.params import AugmentParams
from pipeline.base.section import Section, Share, _load_yaml, validate_section
from pipeline.evaluate.params import EvaluateParams
from pipeline.extract.params import ExtractParams
from pipeline.network.params import ImageParams, ModelParams
from pipeline.split.params import SplitParams
from pipeline.train.params import TrainParams


class ExportParams(Section):
    """The graphs and the contract with the device."""

    search: Literal["fast", "full"]
    calibration_frames: Annotated[int, Field(ge=1)]
    opset: Annotated[int, Field(ge=18)]
    max_megapixels: Annotated[float, Field(gt=0, le=1000)]
    max_aspect: Annotated[float, Field(ge=1)]
    golden_tolerance: Annotated[float, Field(gt=0, lt=1)]
    providers: Annotated[tuple[str, ...], Field(min_length=1)]
    allow_fallback: bool


class Fp32Gate(Section):
    """What float32 on a device may differ from float32 in torch."""

    max_logit_difference: Annotated[float, Field(gt=0)]
    flip_margin: Annotated[float, Field(gt=0)]


class Fp16Gate(Section):
    """How often half precision may answer otherwise."""

    max_flips: Share


class Int8Gate(Section):
    """How much accuracy integers may cost."""

    max_top1_drop: Share
    max_worst_class_drop: Share
    min_class_frames: Annotated[int, Field(ge=1)]


class ParityParams(Section):
    """What may differ between torch and a graph, by the graph's precision."""

    fp32: Fp32Gate
    fp16: Fp16Gate
    int8: Int8Gate
    golden_frames: Annotated[int, Field(ge=1, le=1000)]
    golden_max_side: Annotated[int, Field(ge=1)]


class Params(Section):
    """All of `params.yaml`."""

    extract: ExtractParams
    augment: AugmentParams
    split: SplitParams
    model: ModelParams
    image: ImageParams
    train: TrainParams
    evaluate: EvaluateParams
    export: ExportParams
    parity: ParityParams


def read_params(path: Path) -> Params:
    """Read and check every section.

    Raises:
        ParamsError: as `read_section`.
    """
    return validate_params(_load_yaml(path), path)


def validate_params(values: object, path: Path) -> Params:
    """Check a whole parsed `params.yaml`; `path` is for the message.

    Raises:
        ParamsError: all violations in one message.
    """
    return validate_section(path, Params, values, "")
