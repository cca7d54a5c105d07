"""Small grey pictures of frames, and the local features by which parts of them are recognised, also in a mirror."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FEATURES_SIDE = 160  # pixels of the longer side on which features are found; SIFT itself doubles it
FEATURES = 80  # the strongest of a picture
DESCRIPTOR = 128  # numbers of a SIFT descriptor: 4 x 4 cells x 8 directions

# A mirror reverses the cells across the direction of the feature, and turns every direction into its opposite.
MIRRORED = np.arange(DESCRIPTOR).reshape(4, 4, 8)[::-1][:, :, -np.arange(8) % 8].ravel()


@dataclass(frozen=True)
class Features:
    """What is found in one picture."""

    points_xy: NDArray[np.float32]  # (n, 2) pixels of the thumbnail whose longer side is FEATURES_SIDE
    descriptors: NDArray[np.uint8]  # (n, 128) SIFT, square-rooted (Arandjelovic, Zisserman 2012)
    width: int  # pixels of that thumbnail

    def mirrored(self) -> Features:
        """What would be found in the picture's mirror image, left to right."""
        points_xy = self.points_xy * np.array([-1, 1], np.float32) + np.array([self.width - 1, 0], np.float32)
        return Features(points_xy, self.descriptors[:, MIRRORED], self.width)


def find_features(grey_hw: NDArray[np.uint8]) -> Features:
    """The features of a thumbnail (height, width); there may be none."""
    # Lower contrast than usual, since steel and fish in dark water have little.
    sift = cv2.SIFT.create(nfeatures=FEATURES, contrastThreshold=0.01, edgeThreshold=15)
    points, found = sift.detectAndCompute(grey_hw, None)
    # As bytes: thousands of pictures are held in memory. Half of a root is 0.5; few are larger.
    descriptors = np.zeros((0, DESCRIPTOR), np.float32) if found is None else np.asarray(found, np.float32)
    roots = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6))
    points_xy = np.array([point.pt for point in points], np.float32).reshape(-1, 2)
    return Features(points_xy, np.minimum(roots * 512, 255).astype(np.uint8), grey_hw.shape[1])


def unit(descriptors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Descriptors (n, 128) as vectors of length 1, so that a product is the cosine of their angle."""
    vectors = descriptors.astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, np.newaxis]
    return np.asarray(vectors / np.maximum(lengths, 1e-6), dtype=np.float32)
