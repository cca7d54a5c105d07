"""The random views that the five studies name, as entries of `train.online`."""

from __future__ import annotations

import math
from typing import Any

from pydantic import TypeAdapter

from pipeline.train.params import View

STILL = {"name": "affine", "degrees": 0.0, "translate": 0.0, "scale": [1.0, 1.0], "shear_degrees": 0.0}
FLIP = {"name": "mirror_left_right", "probability": 0.5}
JITTER = {"name": "colour_jitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
CROP = {"name": "random_resized_crop", "area": [0.08, 1.0], "aspect": [0.75, 1.3333]}

# The views that the five studies name, as entries of `train.online`.
STUDIES: dict[str, list[dict[str, Any]]] = {
    # 000: 随机裁剪, 统一图像像素为 224×224, 并依概率 (p = 0.5) 对图像进行水平翻转; 001 names none.
    "graphite": [CROP, FLIP],
    # 002: 随机裁剪和缩放操作, 产生 224×224 像素大小; 随机水平翻转.
    "lfw": [CROP, FLIP],
    # 002: 随机裁剪, 并在裁剪区域周围应用 4 像素填充; 随机水平翻转.
    "cub": [{"name": "padded_crop", "padding_pixels": 4}, FLIP],
    # 003: 随机旋转、翻转、放大、缩放、裁剪、颜色扰动 (亮度、对比度、饱和度、色相)、概率转灰度图.
    "pothole": [
        {**STILL, "degrees": 45.0, "scale": [0.8, 1.2], "fill": "black"},
        CROP,
        FLIP,
        {"name": "mirror_top_bottom", "probability": 0.5},
        JITTER,
        {"name": "grey", "probability": 0.1},
    ],
    # 004: 40 度的旋转角, 20% 的平移, 20% 的放大缩小, 20% 的斜向拉伸并允许翻转; Keras fills by the nearest pixel.
    "catsdogs": [
        {
            "name": "affine", "degrees": 40.0, "translate": 0.2, "scale": [0.8, 1.2],
            "shear_degrees": math.degrees(math.atan(0.2)), "fill": "nearest",
        },
        FLIP,
    ],
}  # fmt: skip


def as_views(*entries: dict[str, Any]) -> tuple[View, ...]:
    """Read entries of `train.online`."""
    return TypeAdapter(tuple[View, ...]).validate_python(entries)
