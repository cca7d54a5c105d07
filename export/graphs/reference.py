"""Torch's side of a comparison: frames in batches of equal size, and the trained network's logits for them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.base.frames import read_frame
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.network.checkpoint import Checkpoint
from runtime.answers import Answers

BATCHES = (7, 2, 1)  # frames in a batch, in turn, so that the batch axis is tested too
PIXELS_AT_ONCE = 7680 * 4320  # of a batch: preprocessing holds about 20 bytes for each of its pixels


def frames_of_equal_size(rows: Iterable[Row], project: Project) -> Iterator[NDArray[np.uint8]]:
    """Yield batches (batch, height, width, 3) of consecutive frames of one size.

    A batch has 7, 2 and 1 frames in turn. Batches of large frames are smaller (`PIXELS_AT_ONCE`).
    """
    sizes = itertools.cycle(BATCHES)
    for (height, width), same_size in itertools.groupby(rows, key=lambda row: (row.height, row.width)):
        most = max(1, PIXELS_AT_ONCE // (height * width))
        while chunk := list(itertools.islice(same_size, min(most, next(sizes)))):
            yield np.stack([read_frame(project, row) for row in chunk])


def torch_of(checkpoint: Checkpoint) -> Callable[[NDArray[np.uint8]], Answers]:
    """Return the trained network in float32 as a function of pictures, uint8 (batch, height, width, 3)."""
    network = checkpoint.network()

    @torch.inference_mode()
    def ask(frames_nhwc: NDArray[np.uint8]) -> Answers:
        return checkpoint.answers(network, checkpoint.preprocess(torch.from_numpy(frames_nhwc)))

    return ask
