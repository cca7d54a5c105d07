"""What a frozen backbone says of images, computed once: of training images in several views, of held-out ones exactly.

`project.cache`/features/<key>/features.npy is (n, views, channels). The key is a digest of the frames, the views, the
backbone's structure and weights, the precision, and the code.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.base.progress import track
from pipeline.network.network import Network
from pipeline.train.batches import (
    Images,
    Source,
    drawn,
    exact_from,
    held_out_frames,
    moved,
    pictures_from,
    training_frames,
)
from pipeline.train.frame_cache import CachedArray, key_of
from pipeline.train.params import TrainParams
from pipeline.train.provenance import code_digest

# numpy has no bfloat16: its bits are kept as integers.
_STORED: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype("f4"),
    torch.float16: np.dtype("f2"),
    torch.bfloat16: np.dtype("i2"),
}


@dataclass(frozen=True)
class Views:
    """Features of a frozen backbone: of every image in each of some views, of which an epoch sees one."""

    features: Tensor  # (n, views, channels), in the precision that they were computed in
    order: Tensor  # (n, views) int64: the view of each image in epoch 0, 1, ...; then from the start
    labels: Tensor  # (n,) int64

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, numbers: Sequence[int], epoch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """See `sources.Source`: features (batch, channels)."""
        chosen = torch.tensor(numbers)
        features = self.features[chosen, self.order[chosen, epoch % self.order.shape[1]]]
        return moved(features, device).float(), moved(self.labels[chosen], device)


@dataclass(frozen=True)
class _Run:
    """One network over one source, in some precision."""

    embedder: Network  # on the device, in eval mode
    n_views: int
    batch_size: int
    precision: torch.dtype
    device: torch.device

    def features(self, source: Callable[[], Source], images: Images, key: str) -> Tensor:
        """Find or compute (n, views, channels); the source is built only where nothing is found."""
        shape = (len(images.rows), self.n_views, self._channels(images.preprocess.size))
        array = CachedArray(images.project.cache / "features" / key / "features.npy", shape, _STORED[self.precision])
        stored = torch.from_numpy(np.array(array.read_or_make(lambda empty: self._fill(empty, source()))))
        return stored.view(self.precision)

    def _fill(self, stored: NDArray[Any], source: Source) -> None:
        blocks = [
            range(start, min(start + self.batch_size, len(source))) for start in range(0, len(source), self.batch_size)
        ]
        for view in track(range(self.n_views), "features of a frozen backbone", self.n_views):
            for (inputs, _), block in zip(drawn(source, blocks, view, self.device), blocks, strict=True):
                features = self._embed(inputs)
                bits = features.view(torch.int16) if self.precision == torch.bfloat16 else features
                stored[block.start : block.stop, view] = bits.numpy()

    @torch.inference_mode()
    def _embed(self, input_nchw: Tensor) -> Tensor:
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            return self.embedder.embed(input_nchw).to("cpu", self.precision)

    def _channels(self, size: int) -> int:
        return self._embed(torch.zeros(1, 3, size, size, device=self.device)).shape[1]


def views(network: Network, images: Images, params: TrainParams, precision: torch.dtype, device: torch.device) -> Views:
    """Compute or find the features of training images in `train.cached_views` views, of one where none is random.

    The backbone runs with folded batch norm in `precision` (autocast), and the features are kept in that. Which view an
    epoch sees is drawn by (seed, number), so that any `cached_views` epochs in a row see each view once. With random
    views and `cached_views: 0` there is nothing to cache: the frozen network is then fitted on `sources.pictures`.

    Raises:
        DataError: a frame is missing or broken.
    """
    cache = training_frames(images, params)
    n_views = params.cached_views if params.online else 1
    drawing = (params.seed, n_views, *(view.model_dump_json() for view in params.online)) if params.online else ()
    embedder = copy.deepcopy(network).eval()
    embedder.backbone = fold_batch_norm(embedder.backbone)
    embedder = embedder.to(device).to(memory_format=torch.channels_last)
    run = _Run(embedder, n_views, params.batch_size, precision, device)
    key = key_of(cache.key, [row.path for row in images.rows], *drawing, *_identity(network, images, precision))
    features = run.features(lambda: pictures_from(cache, images, params), images, key)
    turns = np.tile(np.arange(n_views), (len(images.rows), 1))
    order = np.random.default_rng(params.seed).permuted(turns, axis=1)
    return Views(features, torch.from_numpy(order), images.labels)


def exact_features(network: Network, images: Images, batch_size: int, device: torch.device) -> Views:
    """Compute or find the features of held-out images in float32, from the graph's arithmetic on their full frames.

    Raises:
        DataError: a frame is missing or broken.
    """
    cache = held_out_frames(images)
    run = _Run(copy.deepcopy(network).eval().to(device), 1, batch_size, torch.float32, device)
    key = key_of(cache.key, *_identity(network, images, torch.float32))
    features = run.features(lambda: exact_from(cache, images), images, key)
    return Views(features, torch.zeros(len(images.rows), 1, dtype=torch.int64), images.labels)


def _identity(network: Network, images: Images, precision: torch.dtype) -> tuple[object, ...]:
    """What features hang on beside the frames and their views: code, network up to its head, its numbers."""
    digest = hashlib.sha256()
    for name, module in network.named_children():
        if name == "head":
            continue
        digest.update(repr(module).encode())
        for key, value in module.state_dict().items():
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return code_digest(), digest.hexdigest(), astuple(images.preprocess), precision


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Copy a module, with every frozen batch norm folded into the frozen convolution before it, in eval mode.

    The copy gives the same output but for rounding; the original is untouched. What cannot be followed is copied as
    it is.
    """
    folded = copy.deepcopy(module).eval()
    for convolution_name, norm_name in _pairs(folded):
        convolution, norm = folded.get_submodule(convolution_name), folded.get_submodule(norm_name)
        if not isinstance(convolution, nn.Conv2d) or not isinstance(norm, _BatchNorm):
            continue
        if any(parameter.requires_grad for part in (convolution, norm) for parameter in part.parameters()):
            continue
        folded.set_submodule(convolution_name, fuse_conv_bn_eval(convolution, norm))
        # timm's batch norm holds the activation that follows it.
        folded.set_submodule(norm_name, nn.Sequential(*norm.children()))
    return folded


class _Tracer(fx.Tracer):
    """Looks only into what holds a batch norm, which is all that has to be followed."""

    def is_leaf_module(self, module: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002  # fx's signature
        return isinstance(module, _BatchNorm) or not _has_batch_norm(module)


def _has_batch_norm(module: nn.Module) -> bool:
    return any(isinstance(part, _BatchNorm) for part in module.modules())


def _pairs(module: nn.Module) -> Iterator[tuple[str, str]]:
    """The names of each convolution and the batch norm that alone takes what it gives; both are used once."""
    if not _has_batch_norm(module):
        return
    try:
        nodes = [node for node in _Tracer().trace(module).nodes if node.op == "call_module"]
    except (TraceError, TypeError):
        return  # its forward pass decides by values
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
