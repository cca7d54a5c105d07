"""The whole network, and the checkpoint that later stages rebuild it from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.backbones import ARCHITECTURES, build_backbone, read_plain
from pipeline.errors import DataError
from pipeline.files import replacing_file
from pipeline.heads import build_head
from pipeline.modelling import ImageParams, ModelParams
from pipeline.preprocess import Preprocess

FORMAT_VERSION = 2
NOT_FITTED = "not fitted yet: calibration on the validation frames is not part of this version"


class Network(nn.Module):
    """Backbone, global average pooling, head."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def embed(self, input_nchw: Tensor) -> Tensor:
        """Input (batch, 3, size, size) to pooled features (batch, channels)."""
        features: Tensor = self.backbone(input_nchw)
        return features.mean(dim=(2, 3))

    def forward(self, input_nchw: Tensor) -> Tensor:
        """Input (batch, 3, size, size) to logits (batch, classes)."""
        logits: Tensor = self.head(self.embed(input_nchw))
        return logits


def build_network(model: ModelParams, n_classes: int) -> Network:
    """Build a network with its starting weights; `model.freeze` stops the backbone from learning.

    Raises:
        DataError: the weights do not fit (see `build_backbone`).
    """
    backbone = build_backbone(model.arch, model.weights).requires_grad_(model.freeze != "all")
    return Network(backbone, build_head(model, ARCHITECTURES[model.arch].channels, n_classes))


def build_preprocess(model: ModelParams, image: ImageParams) -> Preprocess:
    """Resolve `auto` mean and std to those that the architecture's weights were trained with."""
    architecture = ARCHITECTURES[model.arch]
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
    temperature: float | None = None
    unknown_threshold: float | None = None

    def network(self) -> Network:
        """Rebuild the network in float32, in eval mode."""
        network = build_network(self.model.model_copy(update={"weights": "none"}), len(self.classes))
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
            "temperature": self.temperature,
            "temperature_reason": NOT_FITTED if self.temperature is None else None,
            "unknown_threshold": self.unknown_threshold,
            "unknown_threshold_reason": NOT_FITTED if self.unknown_threshold is None else None,
        }
        with replacing_file(path) as temporary:
            torch.save(value, temporary)


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
        temperature=value["temperature"],
        unknown_threshold=value["unknown_threshold"],
    )


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value
