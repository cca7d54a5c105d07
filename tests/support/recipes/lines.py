"""Values and words that the literal tables of the recipes share."""

from __future__ import annotations

from typing import Any

Line = tuple[str, Any, str]  # dotted name, value, the text's words or "ours: why"
Table = dict[str, list[Line]]  # by row; "*" for what all rows share

RANDOM_CROP = {"name": "random_resized_crop", "area": [0.08, 1.0], "aspect": [0.75, 1.3333333333333333]}
MIRROR = {"name": "mirror_left_right", "probability": 0.5}
CROSS_ENTROPY = {"name": "cross_entropy", "label_smoothing": 0.0, "balanced": False}
FEW = "ours: the text has none"
