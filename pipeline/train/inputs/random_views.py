"""Random views of training images: the transforms of `train.online`, drawn anew for every view.

Pictures are uint8 RGB and lie on any device. The randomness of a view depends only on (seed, view, picture). It does
not depend on the thread that prepares it, on the other pictures, or on what dropout draws from torch's generator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample
from torchvision.transforms.v2 import functional as transforms

from pipeline.train.params import (
    AffineView,
    ColourJitterView,
    GreyView,
    MirrorView,
    PaddedCropView,
    RandomResizedCropView,
    View,
)

_CROP_TRIES = 10  # as torchvision's RandomResizedCrop
_PADDING = {"nearest": "border", "black": "zeros"}  # as grid_sample names them
_COLOUR_CHANGES = {
    "brightness": transforms.adjust_brightness,
    "contrast": transforms.adjust_contrast,
    "saturation": transforms.adjust_saturation,
    "hue": transforms.adjust_hue,
}


def view_generator(seed: int, view: int, picture: int) -> np.random.Generator:
    """Return the random generator of one view of one picture.

    Args:
        seed: `train.seed`.
        view: number of the view; where views are drawn anew in every epoch, the epoch.
        picture: a number that the picture's content gives, so that a new clip changes no view of another one.
    """
    return np.random.default_rng((seed, view, picture))


def random_views(
    pictures: Tensor | Sequence[Tensor],
    views: Sequence[View],
    generators: Sequence[np.random.Generator],
    size: int,
) -> Tensor:
    """Draw a view of each picture.

    Args:
        pictures: (batch, 3, height, width) uint8, or each (3, height, width) where the sizes differ.
        views: the transforms, in their order.
        generators: one per picture.
        size: height and width of the result, pixels.

    Returns:
        (batch, 3, size, size) uint8 on the same device, channels last in memory.
    """
    drawn_nhwc = pictures[0].new_empty((len(pictures), size, size, 3))
    for drawn_hwc, picture_chw, generator in zip(drawn_nhwc, pictures, generators, strict=True):
        drawn_hwc.copy_(random_view(picture_chw, views, generator, size).permute(1, 2, 0))
    return drawn_nhwc.permute(0, 3, 1, 2)


def random_view(picture_chw: Tensor, views: Sequence[View], generator: np.random.Generator, size: int) -> Tensor:
    """Draw a view of one picture.

    Args:
        picture_chw: (3, height, width) uint8.
        views: the transforms, in their order.
        generator: of this picture and view.
        size: height and width of a random resized crop, pixels.
    """
    for view in views:
        match view:
            case RandomResizedCropView():
                picture_chw = random_resized_crop(picture_chw, view, generator, size)
            case PaddedCropView(padding_pixels=padding):
                picture_chw = padded_crop(picture_chw, padding, generator)
            case AffineView():
                picture_chw = affine(picture_chw, view, generator)
            case ColourJitterView():
                picture_chw = colour_jitter(picture_chw, view, generator)
            case MirrorView() | GreyView():
                picture_chw = _with_probability(picture_chw, view, generator)
    return picture_chw


def random_resized_crop(
    picture_chw: Tensor, view: RandomResizedCropView, generator: np.random.Generator, size: int
) -> Tensor:
    """Cut out a box of random area and aspect, and resize it (bilinear, antialiased) to (3, size, size).

    Args:
        picture_chw: (3, height, width) uint8.
        view: ranges of area and aspect.
        generator: of this picture and view.
        size: height and width of the result, pixels.
    """
    top, left, height, width = draw_box(picture_chw.shape[-2], picture_chw.shape[-1], view, generator)
    cut_chw: Tensor = transforms.resized_crop(picture_chw, top, left, height, width, [size, size], antialias=True)
    return cut_chw


def draw_box(
    height: int, width: int, view: RandomResizedCropView, generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draw top, left, height and width of a box as torchvision's RandomResizedCrop does.

    The area and the logarithm of the aspect are uniform. After ten boxes that do not fit, the central box with the
    nearest aspect that fits is taken.

    Args:
        height: of the picture, pixels.
        width: of the picture, pixels.
        view: ranges of area and aspect.
        generator: of this picture and view.
    """
    lowest, highest = min(view.aspect), max(view.aspect)
    for _ in range(_CROP_TRIES):
        area = height * width * generator.uniform(min(view.area), max(view.area))
        aspect = math.exp(generator.uniform(math.log(lowest), math.log(highest)))
        box_width, box_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = int(generator.integers(0, height - box_height, endpoint=True))
            left = int(generator.integers(0, width - box_width, endpoint=True))
            return top, left, box_height, box_width
    aspect = min(max(width / height, lowest), highest)
    box_width, box_height = min(width, round(height * aspect)), min(height, round(width / aspect))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def padded_crop(picture_chw: Tensor, padding_pixels: int, generator: np.random.Generator) -> Tensor:
    """Put black around the picture, and cut out a random box of the picture's own size.

    Args:
        picture_chw: (3, height, width) uint8.
        padding_pixels: width of the black border.
        generator: of this picture and view.
    """
    height, width = picture_chw.shape[-2:]
    top, left = draw_offset(padding_pixels, generator)
    cut_chw: Tensor = transforms.crop(transforms.pad(picture_chw, [padding_pixels]), top, left, height, width)
    return cut_chw


def draw_offset(padding_pixels: int, generator: np.random.Generator) -> tuple[int, int]:
    """Draw the top and left of a padded crop, in pixels of the picture with its border."""
    top, left = generator.integers(0, 2 * padding_pixels, size=2, endpoint=True)
    return int(top), int(left)


def affine(picture_chw: Tensor, view: AffineView, generator: np.random.Generator) -> Tensor:
    """Shear along x, rotate and scale about the centre, then shift; each amount is drawn uniformly from its range.

    The picture is sampled bilinearly. Torchvision's own affine cannot fill with edge pixels. With edge pixels put
    around the picture first, as far as a view may reach, it would take many times as long for the same pixels.

    Args:
        picture_chw: (3, height, width) uint8.
        view: ranges of the amounts, and the fill.
        generator: of this picture and view.
    """
    height, width = picture_chw.shape[-2:]
    theta = picture_chw.new_tensor(draw_affine(height, width, view, generator), dtype=torch.float32)
    return sample_affine(picture_chw[None], theta[None], view)[0]


def draw_affine(height: int, width: int, view: AffineView, generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw an affine map, as `affine_grid` takes it: (2, 3), from pixels of the result to those of the picture.

    Args:
        height: of the picture, pixels.
        width: of the picture, pixels.
        view: ranges of the amounts.
        generator: of this picture and view.
    """
    sides = np.array([width, height])  # in the order x, y
    angle = math.radians(generator.uniform(-view.degrees, view.degrees))
    shift = np.rint(generator.uniform(-view.translate, view.translate, size=2) * sides)
    scale = generator.uniform(min(view.scale), max(view.scale))
    shear = math.tan(math.radians(generator.uniform(-view.shear_degrees, view.shear_degrees)))
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    inverse = np.linalg.inv(scale * rotation @ np.array([[1.0, -shear], [0.0, 1.0]]))
    # affine_grid measures from the centre, in half sides, and maps each pixel of the result to its source.
    return np.column_stack([inverse * sides / sides[:, None], -inverse @ shift * 2 / sides])


def sample_affine(pictures_nchw: Tensor, thetas: Tensor, view: AffineView) -> Tensor:
    """Sample pictures bilinearly along affine maps, and round to 8 bits.

    Args:
        pictures_nchw: (n, 3, height, width) uint8.
        thetas: (n, 2, 3) float32, a map of `draw_affine` for each.
        view: says what lies outside the pictures.
    """
    grid = affine_grid(thetas, list(pictures_nchw.shape), align_corners=False)
    sampled = grid_sample(pictures_nchw.float(), grid, padding_mode=_PADDING[view.fill], align_corners=False)
    return sampled.round_().clamp_(0, 255).to(torch.uint8)


def colour_jitter(picture_chw: Tensor, view: ColourJitterView, generator: np.random.Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue by amounts drawn uniformly, in random order.

    Args:
        picture_chw: (3, height, width) uint8.
        view: ranges of the amounts.
        generator: of this picture and view.
    """
    for name, amount in draw_colour_changes(view, generator):
        picture_chw = _COLOUR_CHANGES[name](picture_chw, amount)
    return picture_chw


def draw_colour_changes(view: ColourJitterView, generator: np.random.Generator) -> list[tuple[str, float]]:
    """Draw the changes of a colour jitter, in the order in which they are made; those of no strength are left out."""
    amounts = {
        "brightness": _factor(view.brightness, generator),
        "contrast": _factor(view.contrast, generator),
        "saturation": _factor(view.saturation, generator),
        "hue": float(generator.uniform(-view.hue, view.hue)),
    }
    strengths = (view.brightness, view.contrast, view.saturation, view.hue)
    drawn = [*amounts.items()]
    # Converting to HSV and back costs a level even where nothing is changed.
    return [drawn[i] for i in generator.permutation(len(drawn)) if strengths[i]]


def _factor(strength: float, generator: np.random.Generator) -> float:
    return float(generator.uniform(max(0.0, 1 - strength), 1 + strength))


def _with_probability(picture_chw: Tensor, view: MirrorView | GreyView, generator: np.random.Generator) -> Tensor:
    if generator.random() >= view.probability:
        return picture_chw
    if isinstance(view, GreyView):
        grey_chw: Tensor = transforms.rgb_to_grayscale(picture_chw, num_output_channels=3)
        return grey_chw
    return picture_chw.flip(-1 if view.name == "mirror_left_right" else -2)
