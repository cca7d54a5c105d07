"""Networks up to their head, with the weights that they start from."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.base.errors import DataError
from pipeline.network.architectures import Body, architecture_of
from pipeline.network.feature_extractors import TRACED_SIZE
from pipeline.network.params import Pooling
from pipeline.network.torch_files import is_of_same_kind, read_plain, state_dict_of

_LIBRARIES = ("torch", "torchvision", "timm")  # whose layers the networks have


def versions_of_networks() -> list[str]:
    """The versions of the libraries that compute features, for caches of features."""
    return [metadata.version(name) for name in _LIBRARIES]


def build_body(arch: str, weights: str, *, plain: bool, pooling: Pooling = "average", size: int = TRACED_SIZE) -> Body:
    """Build a network without its last layer, or up to its last feature map, with its first weights.

    A plain network has the published classifier's hidden layers. They are taken from `weights` where the file has
    them; they start at random where it has none of them.

    Args:
        arch: name of the architecture.
        weights: `imagenet`, `none`, or the path of a `.pt`, `.pth` or `.safetensors` file with the published names, of
            the whole network or of its features only.
        plain: whether only the last layer is left out; else the network ends with its last feature map, or with its
            own pooling where that is more than a mean.
        pooling: how the feature map is to be pooled where the network is not plain.
        size: height and width of the input, pixels; some networks are built for one size.

    Raises:
        ParamsError: the architecture is not known, or cannot be cut in this way.
        DataError: the weights cannot be fetched, or a key is missing, unknown or of another shape; all are listed.
    """
    architecture = architecture_of(arch, size)
    network = architecture.build()
    head = architecture.head(network)
    body = architecture.plain(network) if plain else architecture.cut(network, pooling)
    if weights == "imagenet":
        _load(body, architecture.imagenet_state(), f"{head}.", f"model.weights {weights} for {arch}")
    elif weights != "none":
        state = architecture.fit_state(read_state(Path(weights)), body.backbone.state_dict())
        _load(body, state, f"{head}.", f"model.weights {weights} for {arch}")
    return body


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict from `.pt`, `.pth` (without running code from it) or `.safetensors`.

    Raises:
        DataError: the file is missing, is of another kind, or does not hold tensors by name.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; model.weights is imagenet, none or the path of a weights file")
    if path.suffix == ".safetensors":
        state = _read_safetensors(path)
    elif path.suffix in (".pt", ".pth"):
        state = read_plain(path)
    else:
        raise DataError(f"{path}: found the suffix {path.suffix!r}; expected .pt, .pth or .safetensors")
    try:
        return state_dict_of(state)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: {error}") from error


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise DataError(f"{path}: not a readable safetensors file ({error})") from error


# The auxiliary classifiers of GoogLeNet and Inception, which were used only to train the published weights.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


@torch.no_grad()
def _load(body: Body, state: Mapping[str, Tensor], head: str, source: str) -> None:
    """Copy the weights into the body; `head` is the prefix of the published classifier, `source` is for the message."""
    targets = {**body.backbone.state_dict(), **body.hidden.state_dict(prefix=head)}
    if not any(name in targets for name in state if name.startswith(head)):
        targets = {name: value for name, value in targets.items() if not name.startswith(head)}
    ignored = (head, *_AUXILIARY)
    given = {name: value for name, value in state.items() if name in targets or not name.startswith(ignored)}
    # Converted weights lack num_batches_tracked, a counter of training steps, and inference does not read it.
    missing = [name for name in targets if name not in given and not name.endswith("num_batches_tracked")]
    unknown = [name for name in given if name not in targets]
    shapes = [
        f"{name} {tuple(value.shape)} instead of {tuple(targets[name].shape)}"
        for name, value in given.items()
        if name in targets and value.shape != targets[name].shape
    ]
    kinds = [
        f"{name} of {value.dtype} instead of {targets[name].dtype}"
        for name, value in given.items()
        if name in targets and not is_of_same_kind(value, targets[name])
    ]
    problems = {"missing": missing, "unknown": unknown, "of another shape": shapes, "of another kind": kinds}
    if any(problems.values()):
        listed = "; ".join(f"{len(names)} {kind}: {', '.join(names)}" for kind, names in problems.items() if names)
        raise DataError(f"{source}: keys do not fit: {listed}")
    for name, value in given.items():
        targets[name].copy_(value)
