"""Pooled features of frames by a frozen backbone, exactly as evaluation and the graph compute them, kept on disk.

`project.cache`/embeddings/<key>/features.npy is (n, channels) float32. The key is a digest of the frames, the
backbone's weights, the preprocessing, the batches, and the code. So training, evaluation and export share the file.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import astuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from pipeline.base.code_digest import digest_of_code
from pipeline.base.storage.cached_array import CachedArray, cache_key, digests_of
from pipeline.network.inference import Frames, embed
from pipeline.network.network import Network

_CODE = ("pipeline/network", "runtime/images")


def frozen_embeddings(network: Network, frames: Frames, batch_size: int) -> NDArray[np.float32]:
    """Find or compute what `embed` gives of frames: pooled features (n, channels), or maps of a part of a network.

    Frames are decoded only where nothing is found.

    Args:
        network: in float32, with a backbone that training leaves as it is; it is left as it was.
        frames: the frames, in the order of the result.
        batch_size: frames that pass through the backbone together.

    Raises:
        DataError: there are no frames, or one is missing or broken.
    """
    plain = copy.deepcopy(network).eval().to(memory_format=torch.channels_last)  # as the checkpoint rebuilds it
    files = (
        part
        for row, sha256 in zip(frames.rows, digests_of(frames.rows, frames.project), strict=True)
        for part in (row.path, sha256)
    )
    code = digest_of_code(_CODE, torch.__version__)
    key = cache_key(code, _weights_digest(plain), *astuple(frames.preprocess), batch_size, *files)
    file = frames.project.cache / "embeddings" / key / "features.npy"
    with torch.inference_mode():
        shape = plain.embed(torch.zeros(1, 3, plain.size, plain.size, device=next(plain.parameters()).device)).shape[1:]

    def fill(features: NDArray[np.float32]) -> None:
        n_done = 0
        for batch in embed(plain, frames, batch_size, "features of the frames"):
            features[n_done : n_done + len(batch)] = batch.numpy()
            n_done += len(batch)

    stored = CachedArray(file, (len(frames), *shape), np.dtype(np.float32)).read_or_make_for_torch(fill)
    return stored if len(shape) > 1 else np.array(stored)  # maps may be larger than the memory: they stay on disk


def _weights_digest(network: Network) -> str:
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
