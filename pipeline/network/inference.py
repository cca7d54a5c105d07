"""Frames on disk to batches for torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline.base.errors import DataError
from pipeline.base.frames import read_frame
from pipeline.base.manifest import Row
from pipeline.base.progress import track
from pipeline.base.project import Project
from pipeline.network.network import Network
from pipeline.network.preprocess import Preprocess

FEW_IMAGES = 64  # starting loader processes costs more than they save


@dataclass(frozen=True)
class Frames(Dataset[tuple[Tensor, Tensor]]):
    """The pictures of some rows as the network's input (3, size, size) float32, each with its class number."""

    project: Project
    rows: Sequence[Row]
    classes: Sequence[str]
    preprocess: Preprocess

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        row = self.rows[index]
        image_nhwc = torch.from_numpy(read_frame(self.project, row)).unsqueeze(0)
        return self.preprocess(image_nhwc)[0], torch.tensor(self.classes.index(row.label))


def batches(frames: Frames, batch_size: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """Load in batches of (batch, 3, size, size) and (batch,), in order."""
    n_workers = 0 if len(frames) < FEW_IMAGES else min(8, os.cpu_count() or 1)
    return DataLoader(frames, batch_size, num_workers=n_workers)


@torch.inference_mode()
def infer(network: Network, frames: Frames, batch_size: int, what: str) -> tuple[Tensor, Tensor]:
    """Run a network in float32 and eval mode, on a GPU if there is one: embeddings (n, channels), logits (n, classes).

    Raises:
        DataError: there are no frames.
    """
    if not len(frames):
        raise DataError(f"{what}: no frames; expected at least one")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device)
    embeddings = []
    for input_nchw, _ in track(batches(frames, batch_size), what, -(-len(frames) // batch_size)):
        embeddings.append(network.embed(input_nchw.to(device)))
    embedding = torch.cat(embeddings)
    return embedding.cpu(), network.head(embedding).cpu()


def forbid_tf32() -> None:
    """Make float32 mean float32 on a GPU too."""
    # The newer fp32_precision settings break torch.onnx.export when both happen in one process.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
