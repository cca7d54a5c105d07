"""The whole network, and the checkpoint that later stages rebuild it from."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pipeline.architectures import architecture_of
from pipeline.backbones import build_body, read_plain, write_plain
from pipeline.base.errors import DataError, ParamsError
from pipeline.base.files import replacing_file
from pipeline.dry_run import dry_run
from pipeline.freezing import freeze
from pipeline.heads import Head, build_head, build_hidden
from pipeline.modelling import ImageParams, ModelParams
from pipeline.preprocess import Preprocess

FORMAT_VERSION = 3
NOT_FITTED = "not fitted"


class Network(nn.Module):
    """Backbone, pooling, head."""

    def __init__(self, backbone: nn.Module, pool: nn.Module, head: Head, size: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.pool = pool
        self.head = head
        self.size = size  # of the input, in pixels a side
        self.closed: tuple[nn.Module, ...] = ()  # the parts of the backbone that are frozen

    def embed(self, input_nchw: Tensor) -> Tensor:
        """Input (batch, 3, size, size) to pooled features (batch, channels)."""
        features: Tensor = self.pool(self.backbone(input_nchw))
        return features

    def forward(self, input_nchw: Tensor) -> Tensor:
        """Input (batch, 3, size, size) to logits (batch, classes)."""
        logits: Tensor = self.head(self.embed(input_nchw))
        return logits

    def train(self, mode: bool = True) -> Network:
        """Set training mode, but for what is frozen: its batch norm keeps its statistics, its dropout is off."""
        super().train(mode)
        for part in self.closed:
            part.training = False
        return self


def build_network(model: ModelParams, size: int, n_classes: int) -> Network:
    """Build a network for pictures of `size` pixels a side, with its starting weights, frozen as `model.freeze` says.

    Raises:
        ParamsError: there is no such network or layer, or it cannot be had with this head or size.
        DataError: the weights do not fit (see `build_body`).
    """
    body = build_body(model.arch, model.weights, plain=model.head == "plain")
    shape = _shape(body.backbone, model, size)
    if model.head == "plain":
        pool, hidden = body.pool, body.hidden
    else:
        _check_feature_map(shape, model)
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()) if model.pooling == "average" else nn.Flatten()
        hidden = build_hidden(model, shape[1] if model.pooling == "average" else math.prod(shape[1:]))
    width = _shape(nn.Sequential(body.backbone, pool, hidden), model, size)[1]
    network = Network(body.backbone, pool, build_head(model, hidden, width, n_classes), size)
    network.closed = freeze(network.backbone, model.freeze)
    return network


def _shape(module: nn.Module, model: ModelParams, size: int) -> tuple[int, ...]:
    """The shape of what a module makes of one picture."""
    try:
        return tuple(dry_run(module, size).shape)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ParamsError(f"image.size: {model.arch} cannot take pictures of {size} x {size} ({reason})") from error


def _check_feature_map(shape: tuple[int, ...], model: ModelParams) -> None:
    """Refuse what cannot be pooled over its places.

    Raises:
        ParamsError: it is a row of tokens, or has its channels last.
    """
    if len(shape) != 4 or shape[2] != shape[3]:
        raise ParamsError(
            f"model.head: {model.arch} has no feature map but {shape} before its pooling; use head: plain"
        )


def build_preprocess(model: ModelParams, image: ImageParams) -> Preprocess:
    """Resolve `auto` mean and std to those that the architecture's weights were trained with."""
    architecture = architecture_of(model.arch)
    return Preprocess(
        size=image.size,
        crop=image.crop,
        center_fraction=image.center_fraction,
        mean=architecture.mean if image.mean == "auto" else image.mean,
        std=architecture.std if image.std == "auto" else image.std,
    )


@dataclass(frozen=True)
class Checkpoint:
    """What training leaves for the stages after it; they never ask `params.yaml` how to rebuild the network."""

    state_dict: dict[str, Tensor]
    classes: tuple[str, ...]
    model: ModelParams
    preprocess: Preprocess
    fingerprints: dict[str, str | None]  # git commit, sha256 of data/split.csv
    selection: str  # which epoch it is: last, best_val or best_test
    temperature: float | None = None
    temperature_reason: str | None = NOT_FITTED  # why there is none
    unknown_threshold: float | None = None  # below this largest logit a picture shows none of the classes
    unknown_threshold_reason: str | None = NOT_FITTED

    def network(self) -> Network:
        """Rebuild the network in float32, in eval mode."""
        network = build_network(
            self.model.model_copy(update={"weights": "none"}), self.preprocess.size, len(self.classes)
        )
        network.load_state_dict(self.state_dict)
        return network.float().eval()

    def write(self, path: Path) -> None:
        """Write with plain Python values and tensors only, so that `weights_only=True` can read it."""
        value = {
            "format_version": FORMAT_VERSION,
            "state_dict": self.state_dict,
            "classes": list(self.classes),
            "model": self.model.model_dump(mode="json"),
            "preprocess": asdict(self.preprocess),
            "fingerprints": self.fingerprints,
            "selection": self.selection,
            "temperature": self.temperature,
            "temperature_reason": self.temperature_reason,
            "unknown_threshold": self.unknown_threshold,
            "unknown_threshold_reason": self.unknown_threshold_reason,
        }
        with replacing_file(path) as temporary:
            write_plain(value, temporary)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read `models/checkpoint.pt`, never unpickling code.

    Raises:
        DataError: the file is missing, is not a checkpoint, or is of another format version.
    """
    if not path.is_file():
        raise DataError(f"{path}: missing; run `pipe train` first")
    value = read_plain(path)
    version = value.get("format_version") if isinstance(value, dict) else None
    if version != FORMAT_VERSION:
        raise DataError(f"{path}: found checkpoint format {version}; expected {FORMAT_VERSION}; run `pipe train`")
    return Checkpoint(
        state_dict=value["state_dict"],
        classes=tuple(value["classes"]),
        model=ModelParams.model_validate(value["model"]),
        preprocess=Preprocess(**{key: _tuple(item) for key, item in value["preprocess"].items()}),
        fingerprints=value["fingerprints"],
        selection=value["selection"],
        temperature=value["temperature"],
        temperature_reason=value["temperature_reason"],
        unknown_threshold=value["unknown_threshold"],
        unknown_threshold_reason=value["unknown_threshold_reason"],
    )


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value
