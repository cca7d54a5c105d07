"""Features of a frozen backbone, computed once: of training images in several views, of held-out images exactly.

`project.cache`/features/<key>/ is a `RecordStore`. The key is a digest of how frames are kept, of the views, the
backbone's structure and weights, the precision, and the code. A record is (views, channels), and has the sha256 of the
frame's file as its name. For training images the backbone runs with its batch norm folded into its convolutions.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.base.progress import track
from pipeline.base.storage.cache_key import cache_key
from pipeline.base.storage.record_store import RecordStore
from pipeline.network.embeddings import embedding_records, frames_at_once, weights_digest
from pipeline.network.inference import Frames, embed_full_batch
from pipeline.network.network import Network
from pipeline.train.inputs.batches import Images, Pictures, pictures, prefetch
from pipeline.train.inputs.devices import to_device
from pipeline.train.params import TrainParams
from pipeline.train.provenance import code_digest

MOST_BYTES = 1 << 30  # of features that are read into memory; a batch from the disk's cache takes a little longer
# numpy has no bfloat16: its bits are kept as integers.
_STORED: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype("f4"),
    torch.float16: np.dtype("f2"),
    torch.bfloat16: np.dtype("i2"),
}


@dataclass(frozen=True)
class FeaturesOnDisk:
    """Features or feature maps of images on disk, where they stay: they may be larger than the memory."""

    records: Sequence[NDArray[Any]]  # of each image, (views, channels, …), with the bits of `precision`
    precision: torch.dtype

    def __getitem__(self, where: tuple[Tensor, Tensor]) -> Tensor:
        """Return a view of some images, (batch, channels, …): `where` has the images and their views."""
        pairs = zip(where[0].tolist(), where[1].tolist(), strict=True)
        return torch.from_numpy(np.stack([self.records[image][view] for image, view in pairs])).view(self.precision)


@dataclass(frozen=True)
class CachedFeatures:
    """A source of features: each image has some views, and an epoch sees one view of each image."""

    features: Tensor | FeaturesOnDisk  # (n, views, channels), or maps, in the precision that computed them
    order: Tensor  # (n, views) int64: the view of each image in epoch 0, 1, ...; then from the start
    labels: Tensor  # (n,) int64

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Sequence[int], epoch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return features (batch, channels) or (batch, channels, h, w) float32, and labels (batch,).

        Args:
            indices: positions of the images, from 0.
            epoch: selects the view of each image.
            device: where both tensors are put.
        """
        chosen = torch.tensor(indices)
        features = self.features[chosen, self.order[chosen, epoch % self.order.shape[1]]]
        return to_device(features, device).float(), to_device(self.labels[chosen], device)

    def first_views(self, indices: Sequence[int]) -> NDArray[np.float32]:
        """Return the features of the first view of some images, (n, channels)."""
        chosen = torch.tensor(indices, dtype=torch.int64)
        features: NDArray[np.float32] = self.features[chosen, torch.zeros_like(chosen)].float().numpy()
        return features


def view_features(
    network: Network, images: Images, params: TrainParams, precision: torch.dtype, device: torch.device
) -> CachedFeatures:
    """Find or compute the features of training images in `train.cached_views` views, or in one if none is random.

    The seed and the place of the image decide which view an epoch sees. Any `cached_views` epochs in a row see each
    view once. With random views and `cached_views: 0` there is nothing to cache: the frozen network is then fitted on
    `batches.pictures`.

    Args:
        network: the network with the frozen backbone; it is left as it was.
        images: the training images.
        params: the section `train`.
        precision: the backbone runs in it (autocast), and the features are kept in it.
        device: where the backbone runs.

    Raises:
        DataError: a frame is missing or broken.
    """
    frames = pictures(images, params).frames
    n_views = params.cached_views if params.online else 1
    drawing = (params.seed, n_views, *(view.model_dump_json() for view in params.online)) if params.online else ()
    folded = copy.deepcopy(network).eval()
    folded.backbone = fold_batch_norm(folded.backbone)
    folded = folded.to(device).to(memory_format=torch.channels_last)
    embedder = _Embedder(folded, n_views, frames_at_once(params.batch_size), precision, device)
    key = cache_key(frames.kept.key, device.type, embedder.batch_size, *drawing, *_identity(network, images, precision))
    store = RecordStore(images.project.cache / "features" / key, _STORED[precision])

    def fill(positions: Sequence[int], empty: Sequence[NDArray[Any]]) -> None:
        rows = [images.rows[position] for position in positions]
        embedder.fill(empty, pictures(replace(images, rows=rows, labels=images.labels[list(positions)]), params))

    shape = embedder.shape(images.preprocess.size)
    records = store.read_or_make(frames.digests, [shape] * len(frames.rows), fill)
    turns = np.tile(np.arange(n_views), (len(images.rows), 1))
    order = np.random.default_rng(params.seed).permuted(turns, axis=1)
    return CachedFeatures(_features(records, precision), torch.from_numpy(order), images.labels)


def _features(records: Sequence[NDArray[Any]], precision: torch.dtype) -> Tensor | FeaturesOnDisk:
    """Read features (views, channels) of each image into memory; leave maps and features of many images on disk."""
    is_large = bool(records) and (records[0].ndim > 2 or len(records) * records[0].nbytes > MOST_BYTES)
    return FeaturesOnDisk(records, precision) if is_large else torch.from_numpy(np.stack(records)).view(precision)


def exact_features(network: Network, images: Images, batch_size: int) -> CachedFeatures:
    """Find or compute the features of held-out images in float32, from their full frames as the graph sees them.

    Args:
        network: the network with the frozen backbone; it is left as it was.
        images: the held-out images.
        batch_size: images that may pass through the backbone together.

    Raises:
        DataError: a frame is missing or broken.
    """
    frames = Frames(images.project, images.rows, images.classes, images.preprocess)
    records = [record[None] for record in embedding_records(network, frames, batch_size)]
    order = torch.zeros(len(images.rows), 1, dtype=torch.int64)
    return CachedFeatures(_features(records, torch.float32), order, images.labels)


def _identity(network: Network, images: Images, precision: torch.dtype) -> tuple[object, ...]:
    """Return what decides about features beside frames and views: code, network up to its head, preprocessing."""
    return code_digest(), weights_digest(network), astuple(images.preprocess), precision


@dataclass(frozen=True)
class _Embedder:
    """Runs the images of a source through a network up to its head, in some precision and in batches of one size."""

    network: Network  # on the device, in eval mode
    n_views: int
    batch_size: int
    precision: torch.dtype
    device: torch.device

    def shape(self, size: int) -> tuple[int, ...]:
        """Return the shape of what is kept of an image: (views, channels), or (views, channels, h, w)."""
        with torch.inference_mode():
            return self.n_views, *self.network.embed(torch.zeros(1, 3, size, size, device=self.device)).shape[1:]

    def fill(self, empty: Sequence[NDArray[Any]], source: Pictures) -> None:
        """Compute the features of each image of a source into its array, (views, ...)."""
        source.frames.decode()
        blocks = [
            range(start, min(start + self.batch_size, len(source))) for start in range(0, len(source), self.batch_size)
        ]
        for view in track(range(self.n_views), "features of a frozen backbone", self.n_views):
            for (inputs, _), block in zip(prefetch(source, blocks, view, self.device), blocks, strict=True):
                features = self._embed(inputs)
                bits = features.view(torch.int16) if self.precision == torch.bfloat16 else features
                for image, of_image in zip(block, bits.numpy(), strict=True):
                    empty[image][view] = of_image

    @torch.inference_mode()
    def _embed(self, input_nchw: Tensor) -> Tensor:
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            return embed_full_batch(self.network, input_nchw, self.batch_size).to("cpu", self.precision)


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Return a copy of a module in eval mode, with frozen batch norm folded into the frozen convolution before it.

    The copy gives the same output but for rounding; the original is untouched. A module whose forward pass cannot be
    traced is copied unchanged.
    """
    folded = copy.deepcopy(module).eval()
    for convolution_name, norm_name in _foldable_pairs(folded):
        convolution, norm = folded.get_submodule(convolution_name), folded.get_submodule(norm_name)
        if not isinstance(convolution, nn.Conv2d) or not isinstance(norm, _BatchNorm):
            continue
        if any(parameter.requires_grad for part in (convolution, norm) for parameter in part.parameters()):
            continue
        folded.set_submodule(convolution_name, fuse_conv_bn_eval(convolution, norm))
        # timm's batch norm holds the activation that follows it.
        folded.set_submodule(norm_name, nn.Sequential(*norm.children()))
    return folded


def _foldable_pairs(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the names of each convolution and of the batch norm that is its only user; both run once."""
    if not _has_batch_norm(module):
        return
    try:
        nodes = [node for node in _BatchNormTracer().trace(module).nodes if node.op == "call_module"]
    except (TraceError, TypeError):
        return  # the forward pass decides by values
    names = [str(node.target) for node in nodes]
    for node, name in zip(nodes, names, strict=True):
        before = node.all_input_nodes[0]
        if (
            isinstance(module.get_submodule(name), _BatchNorm)
            and before.op == "call_module"
            and isinstance(module.get_submodule(str(before.target)), nn.Conv2d)
            and len(before.users) == 1
            and names.count(name) == names.count(str(before.target)) == 1
        ):
            yield str(before.target), name


class _BatchNormTracer(fx.Tracer):
    """Traces only into modules that hold a batch norm; the rest need not be followed."""

    def is_leaf_module(self, module: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002  # fx's signature
        return isinstance(module, _BatchNorm) or not _has_batch_norm(module)


def _has_batch_norm(module: nn.Module) -> bool:
    return any(isinstance(part, _BatchNorm) for part in module.modules())
