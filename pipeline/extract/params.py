"""The section `extract`: which frames are wanted, how they are written, and which are screened out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from pipeline.base.section import SampleBits, Section


class ScreeningParams(Section):
    """The thresholds at which frames are marked as dropped."""

    min_side: Annotated[int, Field(ge=1)]
    min_brightness: Annotated[float, Field(ge=0, le=255)]
    max_brightness: Annotated[float, Field(ge=0, le=255)]
    min_sharpness: Annotated[float, Field(ge=0, lt=1)]
    repeat_difference: Annotated[float, Field(ge=0, le=255)]


class ExtractParams(Section):
    """How recordings become frames."""

    layout: Literal["class", "split"]
    frames_per_second: Annotated[float, Field(gt=0, le=1000)]
    every_n_frames: Annotated[int, Field(ge=1)] | None
    start_seconds: Annotated[float, Field(ge=0)]
    end_seconds: Annotated[float, Field(gt=0)] | None
    max_frames: Annotated[int, Field(ge=1)] | None
    image_format: Literal["jpeg", "png"]
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]
    max_megapixels: Annotated[float, Field(gt=0)]
    raw_frames_per_second: Annotated[float, Field(ge=1, le=1000)] | None
    max_clip_seconds: Annotated[float, Field(gt=0)]
    decode_timeout_seconds: Annotated[float, Field(gt=0, le=1_000_000)]  # the system can wait 24 days at most
    decode_max_gigabytes: Annotated[float, Field(ge=0.5, le=1_000_000)]
    deinterlace: Literal["auto", "off"]
    on_damage: Literal["keep", "drop", "fail"]
    keep_all: bool
    screening: ScreeningParams


class PhotoLevels(Section):
    """The one key of the section `image` that extraction reads; the rest of it is the network's."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    sample_bits: SampleBits | None
