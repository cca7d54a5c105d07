"""The section `augment` of `params.yaml`: a model for each kind of copy, which `name` selects.

A range is two numbers, and each copy draws its own number evenly from between them. `fill` says what comes in from
outside the picture: its mirror image (`reflect`) or its edge pixels (`nearest`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.base.section import Area, Degrees, Scales, Section, ShearDegrees, Translate

Fill = Literal["reflect", "nearest"]
Factor = Annotated[float, Field(ge=0, le=10)]
Factors = tuple[Factor, Factor]
Sigma = Annotated[float, Field(gt=0, le=255)]
Quality = Annotated[int, Field(ge=1, le=100)]


class MirrorCopy(Section):
    """A mirror image; `top_bottom` is the flip about the X axis."""

    name: Literal["mirror_left_right", "mirror_top_bottom"]


class QuarterTurnCopy(Section):
    """A turn by one, two or three quarters, clockwise."""

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
    """A rotation about the centre."""

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
    """A change of size about the centre: a scale above 1 shows the picture nearer, below 1 farther away."""

    name: Literal["zoom"]
    scale: Scales
    fill: Fill


class CropCopy(Section):
    """A part of the picture with the picture's aspect, anywhere in it."""

    name: Literal["crop"]
    area: tuple[Area, Area]  # as a share of the picture's


class PerspectiveCopy(Section):
    """A view from an angle: every corner moves on its own."""

    name: Literal["perspective"]
    distortion: Annotated[float, Field(ge=0, lt=0.5)]  # a corner moves by up to ± this share of width and of height
    fill: Fill


class ColourCopy(Section):
    """Brightness, contrast or saturation times a factor. 0 is black, flat grey or no colour; 1 changes nothing."""

    name: Literal["brightness", "contrast", "saturation"]
    factor: Factors


class HueCopy(Section):
    """A shift of every colour around the colour circle."""

    name: Literal["hue"]
    degrees: Degrees  # drawn from [-degrees, degrees]


class GreyCopy(Section):
    """The picture without colour."""

    name: Literal["grey"]


class BlurCopy(Section):
    """A Gaussian blur, as of a picture out of focus."""

    name: Literal["blur"]
    sigma_pixels: tuple[Sigma, Sigma]


class NoiseCopy(Section):
    """Gaussian noise, as of a sensor, drawn for every pixel and channel."""

    name: Literal["noise"]
    sigma_levels: tuple[Sigma, Sigma]  # standard deviation, of 255 levels


class JpegCopy(Section):
    """The picture after JPEG of a low quality."""

    name: Literal["jpeg"]
    quality: tuple[Quality, Quality]


Copy = Annotated[
    MirrorCopy | QuarterTurnCopy | AffineCopy | RotateCopy | ShearCopy | ShiftCopy | ZoomCopy | CropCopy
    | PerspectiveCopy | ColourCopy | HueCopy | GreyCopy | BlurCopy | NoiseCopy | JpegCopy,
    Field(discriminator="name"),
]  # fmt: skip


class AugmentParams(Section):
    """Augmentation before training: one copy of every kept frame per entry of `copies`."""

    seed: Annotated[int, Field(ge=0)]
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]
    copies: tuple[Copy, ...]
