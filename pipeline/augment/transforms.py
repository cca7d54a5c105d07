"""The transforms of `augment`: from a frame to a copy, with random numbers of the copy's own.

Frames are (height, width, 3) uint8 BGR, and so are the copies, which are new arrays. OpenCV decodes and encodes BGR.
A change to RGB and back for every copy would take a tenth of the time of `augment`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.augment.params import (
    AffineCopy,
    BlurCopy,
    ColourCopy,
    Copy,
    CropCopy,
    GreyCopy,
    HueCopy,
    JpegCopy,
    MirrorCopy,
    NoiseCopy,
    PerspectiveCopy,
    QuarterTurnCopy,
    RotateCopy,
    ShearCopy,
    ShiftCopy,
    ZoomCopy,
)

Frame = NDArray[np.uint8]

_BORDERS = {"reflect": cv2.BORDER_REFLECT_101, "nearest": cv2.BORDER_REPLICATE}
_FLIPS_AND_TURNS: dict[str, Callable[[Frame], cv2.typing.MatLike]] = {
    "mirror_left_right": lambda frame_hwc: cv2.flip(frame_hwc, 1),
    "mirror_top_bottom": lambda frame_hwc: cv2.flip(frame_hwc, 0),
    "rotate_90": lambda frame_hwc: cv2.rotate(frame_hwc, cv2.ROTATE_90_CLOCKWISE),
    "rotate_180": lambda frame_hwc: cv2.rotate(frame_hwc, cv2.ROTATE_180),
    "rotate_270": lambda frame_hwc: cv2.rotate(frame_hwc, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
_HUE_CIRCLE = 360.0  # degrees: OpenCV's unit for the hue of floating-point pixels
_NO_CHANGE: dict[str, Any] = {"degrees": 0.0, "translate": 0.0, "scale": (1.0, 1.0), "shear_degrees": 0.0}


def generator_for(seed: int, parent: str, position: int) -> np.random.Generator:
    """The random numbers of one copy. They depend on the arguments alone, so a new frame changes no other copy.

    Args:
        seed: seed of the whole augmentation.
        parent: path of the frame, as the manifest spells it.
        position: position of the copy in `augment.copies`, from 0.
    """
    digest = hashlib.sha256(f"{seed}\n{position}\n{parent}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


def make_copy(copy: Copy, frame_hwc: Frame, generator: np.random.Generator) -> Frame:
    """Make the copy that one entry of `augment.copies` describes.

    Args:
        copy: the entry.
        frame_hwc: (height, width, 3) uint8 BGR.
        generator: the copy's random numbers, as of `generator_for`.

    Returns:
        (height, width, 3) uint8 BGR, as large as the frame. A quarter turn exchanges height and width; a crop is
        smaller.
    """
    match copy:
        case MirrorCopy() | QuarterTurnCopy():
            return _uint8(_FLIPS_AND_TURNS[copy.name](frame_hwc))
        case AffineCopy() | RotateCopy() | ShearCopy() | ShiftCopy() | ZoomCopy():
            return _affine(_as_affine(copy), frame_hwc, generator)
        case CropCopy():
            return _crop(copy, frame_hwc, generator)
        case PerspectiveCopy():
            return _perspective(copy, frame_hwc, generator)
        case ColourCopy() | HueCopy() | GreyCopy():
            return _recolour(copy, frame_hwc, generator)
        case _:
            return _degrade(copy, frame_hwc, generator)


def _recolour(copy: ColourCopy | HueCopy | GreyCopy, frame_hwc: Frame, generator: np.random.Generator) -> Frame:
    match copy:
        case ColourCopy(name=name, factor=factors):
            change = {"brightness": _brightness, "contrast": _contrast, "saturation": _saturation}[name]
            return change(frame_hwc, _between(factors, generator))
        case HueCopy(degrees=degrees):
            return _hue(frame_hwc, generator.uniform(-degrees, degrees))
        case GreyCopy():
            return _grey(frame_hwc)


def _degrade(copy: BlurCopy | NoiseCopy | JpegCopy, frame_hwc: Frame, generator: np.random.Generator) -> Frame:
    match copy:
        case BlurCopy(sigma_pixels=sigmas):
            return _blur(frame_hwc, _between(sigmas, generator))
        case NoiseCopy(sigma_levels=sigmas):
            return _noise(frame_hwc, _between(sigmas, generator), generator)
        case JpegCopy(quality=qualities):
            return _jpeg(frame_hwc, int(generator.integers(min(qualities), max(qualities), endpoint=True)))


def _as_affine(copy: AffineCopy | RotateCopy | ShearCopy | ShiftCopy | ZoomCopy) -> AffineCopy:
    match copy:
        case AffineCopy():
            return copy
        case RotateCopy(degrees=degrees):
            part: dict[str, Any] = {"degrees": degrees}
        case ShearCopy(degrees=degrees):
            part = {"shear_degrees": degrees}
        case ShiftCopy(translate=translate):
            part = {"translate": translate}
        case ZoomCopy(scale=scale):
            part = {"scale": scale}
    return AffineCopy(name="affine", **{**_NO_CHANGE, **part}, fill=copy.fill)


def _affine(copy: AffineCopy, frame_hwc: Frame, generator: np.random.Generator) -> Frame:
    """Shear along x, scale and rotate about the centre, then shift. Each amount is drawn uniformly from its range."""
    height, width = frame_hwc.shape[:2]
    angle = math.radians(generator.uniform(-copy.degrees, copy.degrees))
    shift = generator.uniform(-copy.translate, copy.translate, size=2) * (width, height)
    scale = _between(copy.scale, generator)
    shear = math.tan(math.radians(generator.uniform(-copy.shear_degrees, copy.shear_degrees)))

    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = scale * turn @ np.array([[1.0, shear], [0.0, 1.0]])
    centre = np.array([width - 1, height - 1]) / 2
    matrix = np.column_stack([linear, centre + shift - linear @ centre])
    fill = _BORDERS[copy.fill]
    return _uint8(cv2.warpAffine(frame_hwc, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=fill))


def _perspective(copy: PerspectiveCopy, frame_hwc: Frame, generator: np.random.Generator) -> Frame:
    """Move each corner, and the picture with it, by an amount that is drawn uniformly for each axis."""
    height, width = frame_hwc.shape[:2]
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float32)
    moves = generator.uniform(-copy.distortion, copy.distortion, size=(4, 2)) * (width, height)
    matrix = cv2.getPerspectiveTransform(corners, (corners + moves).astype(np.float32))
    fill = _BORDERS[copy.fill]
    return _uint8(cv2.warpPerspective(frame_hwc, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=fill))


def _crop(copy: CropCopy, frame_hwc: Frame, generator: np.random.Generator) -> Frame:
    """Cut out a part with the frame's aspect, without resizing it. Its area and position are drawn uniformly."""
    height, width = frame_hwc.shape[:2]
    side = math.sqrt(_between(copy.area, generator))
    rows, columns = max(1, round(side * height)), max(1, round(side * width))
    top = int(generator.integers(0, height - rows, endpoint=True))
    left = int(generator.integers(0, width - columns, endpoint=True))
    return frame_hwc[top : top + rows, left : left + columns].copy()


def _brightness(frame_hwc: Frame, factor: float) -> Frame:
    """Multiply every level by a factor."""
    return _uint8(cv2.convertScaleAbs(frame_hwc, alpha=factor))


def _contrast(frame_hwc: Frame, factor: float) -> Frame:
    """Multiply every level's distance to the frame's mean luma by a factor."""
    mean = cv2.mean(cv2.cvtColor(frame_hwc, cv2.COLOR_BGR2GRAY))[0]
    return _uint8(cv2.LUT(frame_hwc, np.rint((np.arange(256) - mean) * factor + mean).clip(0, 255).astype(np.uint8)))


def _saturation(frame_hwc: Frame, factor: float) -> Frame:
    """Multiply every level's distance to its pixel's luma by a factor."""
    return _uint8(cv2.addWeighted(frame_hwc, factor, _grey(frame_hwc), 1 - factor, 0))


def _hue(frame_hwc: Frame, degrees: float) -> Frame:
    """Turn every colour by `degrees` around the circle of hues (HSV)."""
    hsv_hwc = cv2.cvtColor(frame_hwc.astype(np.float32), cv2.COLOR_BGR2HSV)
    hsv_hwc[:, :, 0] = (hsv_hwc[:, :, 0] + degrees) % _HUE_CIRCLE
    return _uint8(cv2.convertScaleAbs(cv2.cvtColor(hsv_hwc, cv2.COLOR_HSV2BGR)))


def _grey(frame_hwc: Frame) -> Frame:
    """Put every pixel's luma (BT.601 weights) into all three channels."""
    return _uint8(cv2.cvtColor(cv2.cvtColor(frame_hwc, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR))


def _blur(frame_hwc: Frame, sigma_pixels: float) -> Frame:
    """Blur with a Gaussian of this standard deviation."""
    return _uint8(cv2.GaussianBlur(frame_hwc, (0, 0), sigma_pixels))


def _noise(frame_hwc: Frame, sigma_levels: float, generator: np.random.Generator) -> Frame:
    """Add Gaussian noise of this standard deviation to every level."""
    added_hwc = generator.standard_normal(frame_hwc.shape, dtype=np.float32) * np.float32(sigma_levels)
    return _uint8(cv2.add(frame_hwc, added_hwc, dtype=cv2.CV_8U))


def _jpeg(frame_hwc: Frame, quality: int) -> Frame:
    """Encode the frame as JPEG of this quality, 1 to 100, and decode it."""
    _, data = cv2.imencode(".jpg", frame_hwc, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return _uint8(cv2.imdecode(data, cv2.IMREAD_COLOR))


def _between(ends: Sequence[float], generator: np.random.Generator) -> float:
    return float(generator.uniform(min(ends), max(ends)))


def _uint8(pixels_hwc: NDArray[np.uint8] | cv2.typing.MatLike | None) -> Frame:
    """The pixels with their type: OpenCV's stubs do not say that uint8 pixels stay uint8."""
    return np.asarray(pixels_hwc, dtype=np.uint8)
