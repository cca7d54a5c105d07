"""Drawn pictures with shapes of all sizes, and copies of them: what the search for near duplicates looks for."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.extract import quality

Picture = NDArray[np.uint8]  # (height, width, 3) BGR


def crop(picture_hwc: Picture, keep: float) -> Picture:
    """A part with the share `keep` of the picture's area."""
    height, width = (round(side * keep**0.5) for side in picture_hwc.shape[:2])
    top, left = (picture_hwc.shape[0] - height) // 3, (picture_hwc.shape[1] - width) // 2
    return picture_hwc[top : top + height, left : left + width]


def jpeg_40(picture_hwc: Picture) -> Picture:
    """The picture as JPEG of quality 40 shows it."""
    encoded = cv2.imencode(".jpg", picture_hwc, [cv2.IMWRITE_JPEG_QUALITY, 40])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "jpeg_40": jpeg_40,
    "brighter": lambda picture: np.asarray(cv2.add(picture, (20, 20, 20, 0)), np.uint8),
    "darker": lambda picture: np.asarray(cv2.subtract(picture, (20, 20, 20, 0)), np.uint8),
    "mirror": lambda picture: np.ascontiguousarray(picture[:, ::-1]),
    "crop_70": lambda picture: crop(picture, 0.7),
}


def scene(seed: int) -> Picture:
    """A picture with circles and rectangles of all sizes: (180, 240, 3)."""
    generator = np.random.default_rng(seed)
    scene_hwc = np.full((180, 240, 3), generator.integers(60, 200, 3), np.uint8)
    for _ in range(60):
        x, y, radius = generator.integers((0, 0, 3), (240, 180, 30))
        colour = [int(value) for value in generator.integers(20, 230, 3)]
        if generator.random() < 0.5:
            cv2.circle(scene_hwc, (int(x), int(y)), int(radius), colour, -1)
        else:
            cv2.rectangle(scene_hwc, (int(x), int(y)), (int(x + radius), int(y + radius // 2)), colour, -1)
    return scene_hwc


def add_picture(project: Project, name: str, picture_hwc: Picture, label: str = "a") -> Row:
    """Write the picture as a frame of the project; the row is of a group of its own."""
    path = project.frames / label / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture_hwc)
    height, width = picture_hwc.shape[:2]
    return Row(
        path=project.relative(path),
        label=label,
        source=f"data/raw/{label}/{name}.png",
        source_sha256=f"{label} {name}",
        group=f"{label}/{name}",
        width=width,
        height=height,
        phash=quality.phash(quality.luma(np.ascontiguousarray(picture_hwc[:, :, ::-1]))),
    )
