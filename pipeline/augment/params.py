"""What an entry of `augment.copies` may be: one model per transform, told apart by `name`.

A range is two numbers; the copy's own is drawn evenly from between them. `fill` is what comes in from outside the
picture: `reflect` its mirror image, `nearest` its edge pixels.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.base.section import (
    Area,
    Degrees,
    Scales,
    Section,
    ShearDegrees,
    Translate,
)

Fill = Literal["reflect", "nearest"]
Factor = Annotated[float, Field(ge=0, le=10)]
Factors = tuple[Factor, Factor]
Sigma = Annotated[float, Field(gt=0, le=255)]
Quality = Annotated[int, Field(ge=1, le=100)]


class MirrorCopy(Section):
    """A mirror image; `top_bottom` is the flip about the X axis."""

    name: Literal["mirror_left_right", "mirror_top_bottom"]


class QuarterTurnCopy(Section):
    """One, two or three quarter turns, clockwise."""

    name: Literal["rotate_90", "rotate_180", "rotate_270"]


class AffineCopy(Section):
    """A random affine map about the picture's centre."""

    name: Literal["affine"]
    degrees: Degrees  # rotation is drawn from [-degrees, degrees]
    translate: Translate  # shift is drawn from ±translate of width and of height
    scale: Scales
    shear_degrees: ShearDegrees
    fill: Fill


class RotateCopy(Section):
    """A turn about the centre."""

    name: Literal["rotate"]
    degrees: Degrees  # drawn from [-degrees, degrees]
    fill: Fill


class ShearCopy(Section):
    """A shear along the rows."""

    name: Literal["shear"]
    degrees: ShearDegrees  # drawn from [-degrees, degrees]
    fill: Fill


class ShiftCopy(Section):
    """A shift along both axes."""

    name: Literal["shift"]
    translate: Translate  # drawn from ±translate of width and of height
    fill: Fill


class ZoomCopy(Section):
    """The size changed about the centre: above 1 nearer, below 1 farther away."""

    name: Literal["zoom"]
    scale: Scales
    fill: Fill


class CropCopy(Section):
    """A part of the picture, of its aspect, anywhere in it."""

    name: Literal["crop"]
    area: tuple[Area, Area]  # of the picture's


class PerspectiveCopy(Section):
    """Seen from an angle: every corner moves on its own."""

    name: Literal["perspective"]
    distortion: Annotated[float, Field(ge=0, lt=0.5)]  # a corner moves by up to ± this share of width and of height
    fill: Fill


class ColourCopy(Section):
    """Brightness times a factor, or contrast or saturation: 0 is black, flat grey or no colour; 1 changes nothing."""

    name: Literal["brightness", "contrast", "saturation"]
    factor: Factors


class HueCopy(Section):
    """Every colour moved around the colour circle."""

    name: Literal["hue"]
    degrees: Degrees  # drawn from [-degrees, degrees]


class GreyCopy(Section):
    """Without colour."""

    name: Literal["grey"]


class BlurCopy(Section):
    """Out of focus: a Gaussian."""

    name: Literal["blur"]
    sigma_pixels: tuple[Sigma, Sigma]


class NoiseCopy(Section):
    """Sensor noise: Gaussian, of its own in every pixel and channel."""

    name: Literal["noise"]
    sigma_levels: tuple[Sigma, Sigma]  # standard deviation, of 255 levels


class JpegCopy(Section):
    """What JPEG of a low quality leaves."""

    name: Literal["jpeg"]
    quality: tuple[Quality, Quality]


Copy = Annotated[
    MirrorCopy | QuarterTurnCopy | AffineCopy | RotateCopy | ShearCopy | ShiftCopy | ZoomCopy | CropCopy
    | PerspectiveCopy | ColourCopy | HueCopy | GreyCopy | BlurCopy | NoiseCopy | JpegCopy,
    Field(discriminator="name"),
]  # fmt: skip


class AugmentParams(Section):
    """Offline augmentation: one copy of every kept frame per entry of `copies`."""

    seed: Annotated[int, Field(ge=0)]
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]
    copies: tuple[Copy, ...]
