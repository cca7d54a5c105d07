"""Measures of a picture's luma: sharpness, brightness, and a perceptual hash."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SHARPNESS_SIDE = 512  # pixels of the longer side at which sharpness is measured, so that resolutions compare
HASH_SIDE = 32  # pixels of the square that is hashed
HASH_FREQUENCIES = 8  # per axis, the lowest: 64 bits
HALVED_FROM = 1024  # pixels of the longer side: OpenCV halves a picture in a tenth of the time of any other reduction


def luma(frame_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The luma (BT.601 weights) of an RGB picture, (height, width) uint8. Compute it once for all measures.

    Args:
        frame_hwc: (height, width, 3) uint8 RGB.
    """
    return np.asarray(cv2.cvtColor(frame_hwc, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def luma_of_bgr(frame_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The luma (BT.601 weights) of a BGR picture, (height, width) uint8.

    Args:
        frame_hwc: (height, width, 3) uint8 BGR.
    """
    return np.asarray(cv2.cvtColor(frame_hwc, cv2.COLOR_BGR2GRAY), dtype=np.uint8)


def sharpness(luma_hw: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian, with the longer side resized to 512 pixels; blur lowers it.

    Args:
        luma_hw: (height, width) uint8.
    """
    luma_hw = _halve(luma_hw)
    scale = SHARPNESS_SIDE / max(luma_hw.shape)
    size = (max(1, round(luma_hw.shape[1] * scale)), max(1, round(luma_hw.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return float(cv2.Laplacian(cv2.resize(luma_hw, size, interpolation=interpolation), cv2.CV_64F).var())


def brightness(luma_hw: NDArray[np.uint8]) -> float:
    """Mean luma, 0 for black to 255 for white.

    Args:
        luma_hw: (height, width) uint8.
    """
    return cv2.sumElems(luma_hw)[0] / luma_hw.size  # the sum is exact, and twenty times as fast as with numpy


def phash(luma_hw: NDArray[np.uint8]) -> str:
    """64-bit perceptual hash as 16 hex digits: which of the lowest DCT frequencies lie above their median.

    The hashes of similar pictures differ in few bits. Few different bits do not prove that pictures are similar.

    Args:
        luma_hw: (height, width) uint8.
    """
    small_hw = cv2.resize(_halve(luma_hw), (HASH_SIDE, HASH_SIDE), interpolation=cv2.INTER_AREA)
    frequencies = cv2.dct(small_hw.astype(np.float32))[:HASH_FREQUENCIES, :HASH_FREQUENCIES]
    # Rounded, since the frequencies of a flat picture are noise around zero.
    lowest = np.round(frequencies, 3)
    return np.packbits(lowest > np.median(lowest)).tobytes().hex()


def _halve(luma_hw: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Halve a picture by means of 2 x 2 pixels until its longer side is below 1024; an odd side loses its last line."""
    height, width = luma_hw.shape
    while max(height, width) >= HALVED_FROM and min(height, width) > 1:
        size = (width // 2, height // 2)
        even_hw = luma_hw[: 2 * size[1], : 2 * size[0]]
        luma_hw = np.asarray(cv2.resize(even_hw, size, interpolation=cv2.INTER_AREA), np.uint8)
        height, width = luma_hw.shape
    return luma_hw
