"""Frames as the network sees them, and what torch says of them: what graphs are calibrated on and chosen by."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from export.graphs.gates import Logits
from pipeline.base.frames import read_frame
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.network.checkpoint import Checkpoint

BATCHES = (7, 2, 1)  # in turn, so that the batch axis is tried too
PIXELS_AT_ONCE = 7680 * 4320  # of a batch: its preprocessing holds some 20 bytes for each


def frames_of_equal_size(rows: Iterable[Row], project: Project) -> Iterator[NDArray[np.uint8]]:
    """Consecutive frames of equal size in batches (batch, height, width, 3) of 7, 2 and 1 in turn; large ones fewer."""
    sizes = itertools.cycle(BATCHES)
    for (height, width), same_size in itertools.groupby(rows, key=lambda row: (row.height, row.width)):
        most = max(1, PIXELS_AT_ONCE // (height * width))
        while chunk := list(itertools.islice(same_size, min(most, next(sizes)))):
            yield np.stack([read_frame(project, row) for row in chunk])


def torch_of(checkpoint: Checkpoint) -> Callable[[NDArray[np.uint8]], Logits]:
    """The trained network in float32 as a function: pictures (batch, height, width, 3) to logits (batch, classes)."""
    network = checkpoint.network()

    @torch.inference_mode()
    def ask(frames_nhwc: NDArray[np.uint8]) -> Logits:
        logits: Logits = network(checkpoint.preprocess(torch.from_numpy(frames_nhwc))).numpy()
        return logits

    return ask
