"""Frames of flat colours with answers that are planted: what pictures are drawn of, without a network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.evaluate.metrics import probabilities_of
from pipeline.evaluate.predictions import Judged


def judged_frames(
    project: Project, truth: Sequence[int], logits: Sequence[Sequence[float]], names: Sequence[str]
) -> Judged:
    """A frame for every truth, on disk, with its logits; frame 7 is a square of the grey 70."""
    rows = []
    for number, of_class in enumerate(truth):
        path = project.frames / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 9), (10 * number,) * 3).save(path)
        group = f"data/raw/{names[of_class]}/{number:03}.mp4"
        rows.append(Row(project.relative(path), names[of_class], group, "", group, width=12, height=9, split="test"))
    both = np.array(logits, np.float32)
    return Judged(rows, np.array(truth), both, probabilities_of(both, None), both)
