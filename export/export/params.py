"""The section `export` of `params.yaml`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.base.section import Section


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
