"""Where batches come from: training images with random views, cached features of them, and exact held-out images.

A source gives a batch by the numbers of its images; `drawn` prepares the next ones while the caller computes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.base import manifest
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.network.preprocess import Preprocess
from pipeline.train.frame_cache import FrameCache, frame_cache
from pipeline.train.params import RandomResizedCropView, TrainParams, View
from pipeline.train.random_views import random_views, view_generator

_AHEAD = 2  # batches that are prepared while the caller computes on one
_HEAD_ROOM = 8 / 7  # 256 for 224: a random crop is cut from more pixels than it is resized to


class Source(Protocol):
    """Images, or features of images, to train or validate on."""

    def __len__(self) -> int:
        """How many images there are."""

    def batch(self, numbers: Sequence[int], epoch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Inputs (batch, 3, size, size) or pooled features (batch, channels), float32, and labels (batch,) int64."""


@dataclass(frozen=True)
class Images:
    """Rows of the manifest as something to learn from or to be judged on."""

    project: Project
    rows: Sequence[Row]
    labels: Tensor  # (n,) int64, class numbers
    preprocess: Preprocess


def labelled(project: Project, rows: Sequence[Row], classes: Sequence[str], preprocess: Preprocess) -> Images:
    """Number the rows' classes."""
    number_of = {name: number for number, name in enumerate(classes)}
    return Images(project, rows, torch.tensor([number_of[row.label] for row in rows], dtype=torch.int64), preprocess)


@dataclass(frozen=True)
class Pictures:
    """Training images from the frame cache, with random views drawn anew for every (seed, epoch, number)."""

    pixels_nhwc: NDArray[np.uint8]  # (frames of the cache, side, side, 3)
    positions: NDArray[np.int64]  # (n,) where each image lies in the cache
    labels: Tensor  # (n,) int64
    preprocess: Preprocess
    views: tuple[View, ...]
    seed: int

    def __len__(self) -> int:
        return len(self.positions)

    def batch(self, numbers: Sequence[int], epoch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """See `Source`: inputs (batch, 3, size, size)."""
        pixels_nhwc = moved(torch.from_numpy(self.pixels_nhwc[self.positions[list(numbers)]]), device)
        if self.views:
            generators = [view_generator(self.seed, epoch, number) for number in numbers]
            drawn_nchw = random_views(pixels_nhwc.permute(0, 3, 1, 2), self.views, generators, self.preprocess.size)
            pixels_nhwc = drawn_nchw.permute(0, 2, 3, 1)
        return self.preprocess.normalised(pixels_nhwc), moved(self.labels[list(numbers)], device)


def pictures(images: Images, params: TrainParams) -> Pictures:
    """Training images, decoded once.

    Raises:
        DataError: a frame is missing or broken.
    """
    return pictures_from(training_frames(images, params), images, params)


def training_frames(images: Images, params: TrainParams) -> FrameCache:
    """The cache of all kept frames of `data/split.csv`: folds and seeds train on different ones of the same.

    Raises:
        DataError: a frame is missing.
    """
    rows = [row for row in manifest.read_split(images.project.split_csv) if row.kept]
    return frame_cache(images.project, rows, images.preprocess, _side(images.preprocess.size, params), np.dtype("u1"))


def pictures_from(cache: FrameCache, images: Images, params: TrainParams) -> Pictures:
    """Training images from the cache that `training_frames` found.

    Raises:
        DataError: a frame is broken.
    """
    position_of = {row.path: position for position, row in enumerate(cache.rows)}
    positions = np.array([position_of[row.path] for row in images.rows], dtype=np.int64)
    return Pictures(cache.pixels_nhwc(), positions, images.labels, images.preprocess, params.online, params.seed)


def _side(size: int, params: TrainParams) -> int:
    needs_room = any(isinstance(view, RandomResizedCropView) for view in params.online)
    return math.ceil(size * _HEAD_ROOM) if needs_room else size


@dataclass(frozen=True)
class Exact:
    """Held-out images by the graph's own arithmetic on the full frame; the resized levels are kept as float32."""

    levels_nhwc: NDArray[np.float32]  # (n, size, size, 3), 0 to 255
    labels: Tensor  # (n,) int64
    preprocess: Preprocess

    def __len__(self) -> int:
        return len(self.labels)

    def batch(
        self,
        numbers: Sequence[int],
        epoch: int,  # noqa: ARG002  # the same in every one
        device: torch.device,
    ) -> tuple[Tensor, Tensor]:
        """See `Source`: inputs (batch, 3, size, size)."""
        levels_nhwc = moved(torch.from_numpy(self.levels_nhwc[list(numbers)]), device)
        return self.preprocess.normalised(levels_nhwc), moved(self.labels[list(numbers)], device)


def exact(images: Images) -> Exact:
    """Held-out images, decoded once.

    Raises:
        DataError: a frame is missing or broken.
    """
    return exact_from(held_out_frames(images), images)


def held_out_frames(images: Images) -> FrameCache:
    """The cache of exactly these images.

    Raises:
        DataError: a frame is missing.
    """
    return frame_cache(images.project, images.rows, images.preprocess, images.preprocess.size, np.dtype("f4"))


def exact_from(cache: FrameCache, images: Images) -> Exact:
    """Held-out images from the cache that `held_out_frames` found.

    Raises:
        DataError: a frame is broken.
    """
    return Exact(cache.pixels_nhwc(), images.labels, images.preprocess)


def drawn(
    source: Source, batches: Sequence[Sequence[int]], epoch: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Give the batches in order, the next ones prepared in a thread while the caller computes.

    What goes wrong in the thread is raised here. The thread ends with the loop over the batches, however that ends.
    """
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(1, "batches", initializer=_keep_to_one_core) as thread:
        try:
            for numbers in batches:
                waiting.append(thread.submit(source.batch, numbers, epoch, device))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            thread.shutdown(cancel_futures=True)


def _keep_to_one_core() -> None:
    # Torch's setting is the calling thread's: a second team of threads would take the caller's cores while it computes.
    torch.set_num_threads(1)


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; on the way to a GPU from pinned memory, so that nobody waits for the copy."""
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
