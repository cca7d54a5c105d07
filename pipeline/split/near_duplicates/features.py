"""Local features of a thumbnail, by which parts of a picture are recognised, also in its mirror image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FEATURES_SIDE = 160  # pixels of the longer side of the thumbnail; SIFT itself doubles it
FEATURES = 80  # features of a picture, at most: the strongest
DESCRIPTOR = 128  # values of a SIFT descriptor: 4 x 4 cells x 8 directions

# The positions of a descriptor's values in the mirror image: a mirror reverses the cells across the direction of the
# feature, and turns every direction into its opposite.
MIRRORED = np.arange(DESCRIPTOR).reshape(4, 4, 8)[::-1][:, :, -np.arange(8) % 8].ravel()


@dataclass(frozen=True)
class Features:
    """The local features of one picture."""

    points_xy: NDArray[np.float32]  # (n, 2) pixels of the thumbnail whose longer side is FEATURES_SIDE
    descriptors: NDArray[np.uint8]  # (n, 128) SIFT, square-rooted (Arandjelovic, Zisserman 2012)
    width: int  # pixels of the thumbnail

    def mirrored(self) -> Features:
        """The features of the picture's mirror image, left to right."""
        points_xy = self.points_xy * np.array([-1, 1], np.float32) + np.array([self.width - 1, 0], np.float32)
        return Features(points_xy, self.descriptors[:, MIRRORED], self.width)


def find_features(grey_hw: NDArray[np.uint8]) -> Features:
    """The features of a thumbnail, (height, width) uint8; there may be none."""
    # The contrast threshold is lower than usual, since steel and fish in dark water have little contrast.
    sift = cv2.SIFT.create(nfeatures=FEATURES, contrastThreshold=0.01, edgeThreshold=15)
    points, values = sift.detectAndCompute(grey_hw, None)
    descriptors = np.zeros((0, DESCRIPTOR), np.float32) if values is None else np.asarray(values, np.float32)
    roots = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6))
    points_xy = np.array([point.pt for point in points], np.float32).reshape(-1, 2)
    # Bytes, since descriptors of thousands of pictures are held in memory. They hold roots up to 0.5; few are larger.
    return Features(points_xy, np.minimum(roots * 512, 255).astype(np.uint8), grey_hw.shape[1])


def unit_vectors(descriptors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Descriptors, (n, 128) uint8, as vectors of length 1: the product of two is the cosine of their angle."""
    vectors = descriptors.astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, np.newaxis]
    return np.asarray(vectors / np.maximum(lengths, 1e-6), dtype=np.float32)
