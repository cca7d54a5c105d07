"""Frames of flat colours with planted answers: pictures can be drawn of them without a network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.evaluate.predictions import Predictions
from pipeline.network.embeddings import Embeddings
from runtime.answers import probabilities_of


def judged_frames(
    project: Project, truth: Sequence[int], logits: Sequence[Sequence[float]], names: Sequence[str]
) -> Predictions:
    """Write one grey frame per true class, and give it its logits.

    Args:
        project: where the frames go; frame 7, for example, is a rectangle of the grey 70.
        truth: (n,) class numbers.
        logits: (n, classes).
        names: the names of the classes, by their numbers.
    """
    rows = []
    for index, of_class in enumerate(truth):
        path = project.frames / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 9), (10 * index,) * 3).save(path)
        group = f"data/raw/{names[of_class]}/{index:03}.mp4"
        rows.append(Row(project.relative(path), names[of_class], group, "", group, width=12, height=9, split="test"))
    of_frames = np.array(logits, np.float32)
    probabilities, features = probabilities_of(of_frames, None), Embeddings(list(of_frames))
    return Predictions(rows, np.array(truth), of_frames, of_frames.max(axis=1), probabilities, features)
