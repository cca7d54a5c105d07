"""Pooled features of frames by a frozen backbone, exactly as evaluation and the graph compute them, kept on disk.

`project.cache`/embeddings/<key>/ is a `RecordStore`. The key is a digest of the backbone's weights, the preprocessing,
the batches, and the code. A record is (channels,) float32, and has the sha256 of the frame's file as its name. So
training, evaluation and export share the records, and a new frame costs its own features alone.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import cv2
import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from torch import fx

from pipeline.base.code_digest import digest_of_code
from pipeline.base.errors import DataError
from pipeline.base.storage.cache_key import cache_key, digests_of
from pipeline.base.storage.record_store import RecordStore
from pipeline.network.backbones import versions_of_networks
from pipeline.network.inference import Frames, embed, embedding_device
from pipeline.network.network import Network

_CODE = ("pipeline/base/frames.py", "pipeline/network", "runtime/images")
_AT_ONCE = 32  # frames that pass through a backbone together, at most
_BLOCK = 10_000  # frames whose features are in memory at once: 51 MB of 1,280 channels


@dataclass(frozen=True)
class Embeddings:
    """The features of frames, of which memory holds only those that are asked for: they may lie on disk."""

    records: Sequence[NDArray[np.float32]]  # of each frame, (channels,)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, chosen: NDArray[np.bool_] | NDArray[np.int64] | Sequence[int]) -> Embeddings:
        """Select frames by a mask, or by their positions."""
        positions = np.asarray(chosen)
        if positions.dtype == np.bool_:
            positions = np.flatnonzero(positions)
        return Embeddings([self.records[position] for position in positions.tolist()])

    def array(self) -> NDArray[np.float32]:
        """Copy the features of all frames into memory, (n, channels)."""
        return np.stack(self.records)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield the features of all frames in their order, some thousands at a time."""
        for start in range(0, len(self.records), _BLOCK):
            yield np.stack(self.records[start : start + _BLOCK])

    @classmethod
    def of_parts(cls, parts: Iterable[Embeddings]) -> Embeddings:
        """Put the frames of several parts one after the other."""
        return cls([record for part in parts for record in part.records])


def frozen_embeddings(network: Network, frames: Frames, batch_size: int) -> NDArray[np.float32]:
    """Find or compute the pooled features (n, channels) of frames.

    Args:
        network: in float32, with a backbone that training leaves as it is; it is left as it was.
        frames: the frames, in the order of the result.
        batch_size: frames that may pass through the backbone together.

    Raises:
        DataError: there are no frames, or one is missing or broken.
    """
    return np.stack(embedding_records(network, frames, batch_size))


@torch.inference_mode()
def infer_frozen(network: Network, frames: Frames, batch_size: int) -> tuple[Embeddings, NDArray[np.float32]]:
    """Run a network over frames, of which only those without a record pass through its backbone.

    Args:
        network: as for `frozen_embeddings`.
        frames: the frames, in the order of the result.
        batch_size: as for `frozen_embeddings`.

    Returns:
        Embeddings, and logits (n, classes).

    Raises:
        DataError: as `frozen_embeddings`.
    """
    embeddings = Embeddings(embedding_records(network, frames, batch_size))
    device = next(network.head.parameters()).device
    logits = [network.head(torch.from_numpy(block).to(device)).cpu().numpy() for block in embeddings.blocks()]
    return embeddings, np.concatenate(logits)


def embedding_records(network: Network, frames: Frames, batch_size: int) -> list[NDArray[np.float32]]:
    """Find or compute what `embed` gives of each frame: pooled features (channels,), or maps of a part of a network.

    Only frames without a record are decoded. The records lie on disk, since maps may be larger than the memory.

    Args:
        network: as for `frozen_embeddings`.
        frames: the frames, in the order of the result.
        batch_size: as for `frozen_embeddings`.

    Raises:
        DataError: as `frozen_embeddings`.
    """
    if not len(frames):
        raise DataError("features of the frames: no frames; expected at least one")
    plain = copy.deepcopy(network).eval().to(memory_format=torch.channels_last)  # as the checkpoint rebuilds it
    n_at_once = frames_at_once(batch_size)
    code = digest_of_code(_CODE, cv2.__version__, PIL.__version__, *versions_of_networks())
    key = cache_key(code, embedding_device().type, weights_digest(plain), *astuple(frames.preprocess), n_at_once)
    with torch.inference_mode():
        device = next(plain.parameters()).device
        shape = tuple(plain.embed(torch.zeros(1, 3, plain.size, plain.size, device=device)).shape[1:])

    def fill(positions: Sequence[int], empty: Sequence[NDArray[Any]]) -> None:
        wanted = replace(frames, rows=[frames.rows[position] for position in positions])
        n_done = 0
        for batch in embed(plain, wanted, n_at_once, "features of the frames", in_full_batches=True):
            for record, features in zip(empty[n_done:], batch.numpy(), strict=False):
                record[...] = features
            n_done += len(batch)

    store = RecordStore(frames.project.cache / "embeddings" / key, np.dtype(np.float32))
    return store.read_or_make(digests_of(frames.rows, frames.project), [shape] * len(frames), fill)


def frames_at_once(batch_size: int) -> int:
    """How many frames pass through a frozen backbone together. It is part of what its features depend on.

    Runs with large batches share their features. A small batch may have been chosen because of little memory.
    """
    return min(batch_size, _AT_ONCE)


def weights_digest(network: Network) -> str:
    """A digest of the backbone and the pooling: their layers and weights."""
    digest = hashlib.sha256()
    for part in (network.backbone, network.pool):
        digest.update(repr(part).encode())
        if isinstance(part, fx.GraphModule):  # a part of a network: its layers do not tell where it ends
            digest.update(part.code.encode())
        for name, value in part.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
