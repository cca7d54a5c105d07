"""Pictures into pictures: the copies that `augment` makes, each with randomness of its own.

Frames are (height, width, 3) uint8 RGB; so are the results, which are new arrays.
"""

from __future__ import annotations

import hashlib
import math

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.params import AffineCopy, Copy, MirrorCopy, Rotate90Copy

_BORDERS = {"reflect": cv2.BORDER_REFLECT_101, "nearest": cv2.BORDER_REPLICATE}


def generator_for(seed: int, parent: str, position: int) -> np.random.Generator:
    """The randomness of one copy: it hangs on these three and nothing else, so a new frame changes no other copy.

    Args:
        seed: of the whole augmentation.
        parent: path of the frame, as the manifest spells it.
        position: of the copy in `augment.copies`, from 0.
    """
    digest = hashlib.sha256(f"{seed}\n{position}\n{parent}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


def make_copy(copy: Copy, frame_hwc: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """Make the copy that one entry of `augment.copies` describes.

    Returns:
        (height, width, 3) uint8, as large as the frame; a quarter turn exchanges height and width.
    """
    match copy:
        case MirrorCopy(name="mirror_left_right"):
            return mirror_left_right(frame_hwc)
        case MirrorCopy():
            return mirror_top_bottom(frame_hwc)
        case Rotate90Copy():
            return rotate_90(frame_hwc)
        case AffineCopy():
            return affine(copy, frame_hwc, generator)


def mirror_left_right(frame_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The left edge becomes the right one."""
    return _uint8(cv2.flip(frame_hwc, 1))


def mirror_top_bottom(frame_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The upper edge becomes the lower one: the flip about the X axis."""
    return _uint8(cv2.flip(frame_hwc, 0))


def rotate_90(frame_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A quarter turn clockwise: (height, width, 3) becomes (width, height, 3)."""
    return _uint8(cv2.rotate(frame_hwc, cv2.ROTATE_90_CLOCKWISE))


def affine(copy: AffineCopy, frame_hwc: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """Shear along x, scale and rotate about the centre, then shift; each amount drawn uniformly from its range.

    What comes in from outside the frame is filled by `copy.fill`: the frame's reflection or its nearest pixel.
    """
    height, width = frame_hwc.shape[:2]
    angle = math.radians(generator.uniform(-copy.degrees, copy.degrees))
    shift = generator.uniform(-copy.translate, copy.translate, size=2) * (width, height)
    scale = generator.uniform(min(copy.scale), max(copy.scale))
    shear = math.tan(math.radians(generator.uniform(-copy.shear_degrees, copy.shear_degrees)))

    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = scale * turn @ np.array([[1.0, shear], [0.0, 1.0]])
    centre = np.array([width - 1, height - 1]) / 2
    matrix = np.column_stack([linear, centre + shift - linear @ centre])
    fill = _BORDERS[copy.fill]
    return _uint8(cv2.warpAffine(frame_hwc, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=fill))


def _uint8(pixels_hwc: NDArray[np.uint8] | cv2.typing.MatLike) -> NDArray[np.uint8]:
    """What OpenCV types as any picture is of the type that went in."""
    return np.asarray(pixels_hwc, dtype=np.uint8)
