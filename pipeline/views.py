"""What an entry of `train.online` may be: one model per random transform, told apart by `name`.

They are drawn anew for every view of a training image, in the order of the list; validation and test never see them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.base.section import Area, Degrees, Scales, Section, ShearDegrees, Translate

Probability = Annotated[float, Field(gt=0, le=1)]
Jitter = Annotated[float, Field(ge=0, le=10)]


class RandomResizedCropView(Section):
    """A part of the picture of random area and aspect, resized to `image.size`."""

    name: Literal["random_resized_crop"]
    area: tuple[Area, Area]  # as a share of the picture's
    aspect: Scales  # width / height


class PaddedCropView(Section):
    """The picture at `image.size` with black around it, and of that a random square of `image.size`."""

    name: Literal["padded_crop"]
    padding_pixels: Annotated[int, Field(ge=1, le=1000)]


class MirrorView(Section):
    """A mirror image, with a probability; `top_bottom` is the flip about the X axis."""

    name: Literal["mirror_left_right", "mirror_top_bottom"]
    probability: Probability


class AffineView(Section):
    """A random affine map about the centre: turn, shift, zoom and shear."""

    name: Literal["affine"]
    degrees: Degrees  # rotation is drawn from [-degrees, degrees]
    translate: Translate  # shift is drawn from ±translate of width and of height
    scale: Scales
    shear_degrees: ShearDegrees  # drawn from [-shear_degrees, shear_degrees]
    fill: Literal["nearest", "black"]  # what comes in from outside: the edge pixels, or black


class ColourJitterView(Section):
    """Brightness, contrast, saturation times a factor from [1 - x, 1 + x]; hue moved by up to `hue` of the circle."""

    name: Literal["colour_jitter"]
    brightness: Jitter
    contrast: Jitter
    saturation: Jitter
    hue: Annotated[float, Field(ge=0, le=0.5)]


class GreyView(Section):
    """Without colour, with a probability."""

    name: Literal["grey"]
    probability: Probability


View = Annotated[
    RandomResizedCropView | PaddedCropView | MirrorView | AffineView | ColourJitterView | GreyView,
    Field(discriminator="name"),
]
