"""Inference in torch: frames on disk become batches, and a network runs on them in float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import joblib
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

FEW_IMAGES = 64  # for fewer, starting loader processes takes longer than they save


@dataclass(frozen=True)
class Frames(Dataset[tuple[Tensor, Tensor]]):
    """The frames of some rows as the network's input (3, size, size) float32, each with its class number."""

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


@torch.inference_mode()
def embed(
    network: Network, frames: Frames, batch_size: int, description: str, *, in_full_batches: bool = False
) -> Iterator[Tensor]:
    """Yield the pooled features (batch, channels) of frames, on the CPU; a GPU computes them if there is one.

    Args:
        network: in float32 and eval mode.
        frames: the frames, in the order of the result.
        batch_size: frames that pass through the network together.
        description: names the frames in the progress bar and in the error.
        in_full_batches: whether a smaller batch is filled up, as by `embed_full_batch`.

    Raises:
        DataError: there are no frames.
    """
    if not len(frames):
        raise DataError(f"{description}: no frames; expected at least one")
    device = embedding_device()
    network.to(device)
    for input_nchw, _ in track(_batches(frames, batch_size), description, -(-len(frames) // batch_size)):
        on_device = input_nchw.to(device)
        features = embed_full_batch(network, on_device, batch_size) if in_full_batches else network.embed(on_device)
        yield features.cpu()


def embedding_device() -> torch.device:
    """Return where `embed` computes: on a GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def embed_full_batch(network: Network, input_nchw: Tensor, batch_size: int) -> Tensor:
    """Return what `embed` gives of each picture in a batch of a given size.

    The libraries choose their kernels by the size of a batch, and kernels round differently. In batches of one size
    the features of a picture do not depend on which pictures come with it, bit for bit.

    Args:
        network: in eval mode.
        input_nchw: (n, 3, size, size) with at most `batch_size` pictures; the last one fills the batch up.
        batch_size: pictures of the batch.
    """
    n = len(input_nchw)
    if n < batch_size:
        input_nchw = torch.cat([input_nchw, input_nchw[-1:].expand(batch_size - n, -1, -1, -1)])
    return network.embed(input_nchw.contiguous(memory_format=torch.channels_last))[:n]


@torch.inference_mode()
def infer(network: Network, frames: Frames, batch_size: int, description: str) -> tuple[Tensor, Tensor]:
    """Run a network over frames in float32.

    Args:
        network: in float32 and eval mode.
        frames: the frames, in the order of the result.
        batch_size: frames that pass through the network together.
        description: names the frames in the progress bar and in the error.

    Returns:
        Embeddings (n, channels) and logits (n, classes), on the CPU.

    Raises:
        DataError: there are no frames.
    """
    embedding = torch.cat(list(embed(network, frames, batch_size, description)))
    device = next(network.head.parameters()).device
    return embedding, network.head(embedding.to(device)).cpu()


def _batches(frames: Frames, batch_size: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """Load frames in order, in batches of inputs (batch, 3, size, size) and class numbers (batch,)."""
    n_workers = 0 if len(frames) < FEW_IMAGES else min(8, joblib.cpu_count())
    return DataLoader(frames, batch_size, num_workers=n_workers)
