"""Where batches come from: training pictures with random views, and exact held-out pictures.

A source returns a batch for the indices of its images. `prefetch` prepares the next batches while the caller computes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.network.preprocess import Preprocess
from pipeline.train.inputs.devices import to_device
from pipeline.train.inputs.frame_cache import FrameCache, KeptBox, open_frame_cache
from pipeline.train.inputs.whole_frames import KeptWhole
from pipeline.train.params import RandomResizedCropView, TrainParams, View

_N_AHEAD = 2  # batches that are prepared while the caller computes on one


class Source(Protocol):
    """Images, or features of images, to train or validate on."""

    def __len__(self) -> int:
        """Return the number of images."""

    def batch(self, indices: Sequence[int], epoch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the inputs and labels of some images.

        Args:
            indices: positions of the images in the source, from 0.
            epoch: selects the random view, where there is one.
            device: where both tensors are put.

        Returns:
            Inputs (batch, 3, size, size) or pooled features (batch, channels), float32, and labels (batch,) int64.
        """


@dataclass(frozen=True)
class Images:
    """Rows of the manifest with their labels and their preprocessing."""

    project: Project
    rows: Sequence[Row]
    classes: Sequence[str]  # the position of a name is its number
    labels: Tensor  # (n,) int64, class numbers
    preprocess: Preprocess


def label_images(project: Project, rows: Sequence[Row], classes: Sequence[str], preprocess: Preprocess) -> Images:
    """Number the classes of the rows.

    Args:
        project: the project whose frames the rows name.
        rows: the images.
        classes: the class names; the position of a name is its number.
        preprocess: what the network sees of each image.
    """
    number_of = {name: position for position, name in enumerate(classes)}
    return Images(
        project, rows, classes, torch.tensor([number_of[row.label] for row in rows], dtype=torch.int64), preprocess
    )


@dataclass(frozen=True)
class Pictures:
    """Training images from the frame cache, with random views drawn anew for every (seed, epoch, picture)."""

    frames: FrameCache  # exactly these images; whole frames where crops are drawn
    labels: Tensor  # (n,) int64
    preprocess: Preprocess
    views: tuple[View, ...]
    seed: int

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Sequence[int], epoch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return inputs (batch, 3, size, size) and labels (batch,).

        Args:
            indices: positions of the images, from 0.
            epoch: draws the random views.
            device: where both tensors are put.

        Raises:
            DataError: a frame is missing or broken.
        """
        pixels_nchw = self._views(indices, epoch, device) if self.views else self._boxes(indices, device)
        pixels_nhwc = pixels_nchw.permute(0, 2, 3, 1)
        return self.preprocess.normalised(pixels_nhwc), to_device(self.labels[list(indices)], device)

    def _views(self, indices: Sequence[int], epoch: int, device: torch.device) -> Tensor:
        """Draw the views of some images, (batch, 3, size, size)."""
        # Here, since it imports torchvision: two seconds that a training without random views does not need.
        from pipeline.train.inputs.batched_views import batched_views, padded
        from pipeline.train.inputs.random_views import random_views, view_generator

        numbers = (int(self.frames.digests[index], 16) for index in indices)
        generators = [view_generator(self.seed, epoch, number) for number in numbers]
        if draws_whole_batches(device):
            whole = padded([self.frames[index] for index in indices], device)
            return batched_views(whole, self.views, generators, self.preprocess.size)
        if isinstance(self.frames.kept, KeptBox):
            return random_views(self._boxes(indices, device), self.views, generators, self.preprocess.size)
        whole_hwc = (torch.from_numpy(np.array(self.frames[index])) for index in indices)
        whole_chw = [to_device(picture_hwc, device).permute(2, 0, 1) for picture_hwc in whole_hwc]
        return random_views(whole_chw, self.views, generators, self.preprocess.size)

    def _boxes(self, indices: Sequence[int], device: torch.device) -> Tensor:
        """Return the kept pictures of some images, all of one size: (batch, 3, side, side)."""
        return to_device(torch.from_numpy(self.frames.stacked(indices)), device).permute(0, 3, 1, 2)


def draws_whole_batches(device: torch.device) -> bool:
    """Return whether the views of a batch are drawn together: a GPU waits for Python else, a CPU takes longer."""
    return device.type == "cuda"


def pictures(images: Images, params: TrainParams) -> Pictures:
    """Return training images as a source. Their frames are decoded when a batch first needs them.

    Raises:
        DataError: a frame is missing.
    """
    preprocess = images.preprocess
    crop = next((view for view in params.online if isinstance(view, RandomResizedCropView)), None)
    kept = KeptBox(preprocess, preprocess.size, np.dtype("u1")) if crop is None else KeptWhole(preprocess, crop)
    frames = open_frame_cache(images.project, images.rows, kept)
    return Pictures(frames, images.labels, preprocess, params.online, params.seed)


@dataclass(frozen=True)
class Exact:
    """Held-out images computed as the graph computes them, from the full frame; the resized levels are float32."""

    frames: FrameCache  # exactly these images
    labels: Tensor  # (n,) int64
    preprocess: Preprocess

    def __len__(self) -> int:
        return len(self.labels)

    def batch(
        self,
        indices: Sequence[int],
        epoch: int,  # noqa: ARG002  # of the protocol `Source`
        device: torch.device,
    ) -> tuple[Tensor, Tensor]:
        """Return inputs (batch, 3, size, size) and labels (batch,).

        Args:
            indices: positions of the images, from 0.
            epoch: not used; every epoch sees the same.
            device: where both tensors are put.

        Raises:
            DataError: a frame is missing or broken.
        """
        levels_nhwc = to_device(torch.from_numpy(self.frames.stacked(indices)), device)
        return self.preprocess.normalised(levels_nhwc), to_device(self.labels[list(indices)], device)


def exact(images: Images) -> Exact:
    """Return held-out images as a source. Their frames are decoded when a batch first needs them.

    Raises:
        DataError: a frame is missing.
    """
    preprocess = images.preprocess
    frames = open_frame_cache(images.project, images.rows, KeptBox(preprocess, preprocess.size, np.dtype("f4")))
    return Exact(frames, images.labels, preprocess)


def prefetch(
    source: Source, batches: Sequence[Sequence[int]], epoch: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches in order; a thread prepares the next ones while the caller computes.

    An error in the thread is raised here. The thread ends with the loop over the batches, however the loop ends.

    Args:
        source: where the batches come from.
        batches: the indices of the images of each batch.
        epoch: see `Source.batch`.
        device: where the tensors are put.
    """
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(1, "batches", initializer=_use_one_core) as thread:
        try:
            for indices in batches:
                waiting.append(thread.submit(source.batch, indices, epoch, device))
                if len(waiting) > _N_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            thread.shutdown(cancel_futures=True)


@torch.inference_mode()
def logits_and_labels(
    module: nn.Module, source: Source, batch_size: int, device: torch.device
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return float32 logits (n, classes) and class numbers (n,) of a source's images.

    Args:
        module: maps the source's inputs to logits; it ends in eval mode.
        source: the images, or their features.
        batch_size: images at once.
        device: where the module lies.
    """
    module.eval()
    batches = [list(range(start, min(start + batch_size, len(source)))) for start in range(0, len(source), batch_size)]
    logits, truth = list[NDArray[Any]](), list[NDArray[Any]]()
    for inputs, labels in prefetch(source, batches, 0, device):
        logits.append(module(inputs).float().cpu().numpy())
        truth.append(labels.cpu().numpy())
    return np.concatenate(logits), np.concatenate(truth)


def _use_one_core() -> None:
    # Torch keeps this setting per thread. A second team of threads would take the caller's cores while it computes.
    torch.set_num_threads(1)
