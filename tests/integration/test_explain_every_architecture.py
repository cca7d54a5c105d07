"""Every named architecture can be explained: heat maps, the maps of all its layers, patterns of its filters."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from torch import nn

from pipeline.base.project import Project
from pipeline.network.architectures import NAMED_ARCHITECTURES
from pipeline.network.checkpoint import Checkpoint
from pipeline.network.network import Network
from pipeline.network.preprocess import Preprocess
from pipeline.tools.explain import explain as command
from pipeline.tools.explain import filter_patterns
from pipeline.tools.explain.activations import LayerMaps, all_maps, map_layers
from tests.support.checkpoints import Untrained, checkpoint_of
from tests.support.explained_networks import MODEL, built

# Convolutions and poolings up to the last feature map: 13 + 5 of VGG16, 17 + 3 + 1 of ResNet18, and so on.
LAYERS = {
    "efficientnet_lite0": 49, "mobilenet_v2": 52, "small_cnn": 8, "vgg16": 18, "vgg19": 21, "resnet18": 21,
    "resnet34": 37, "resnet50": 54, "resnet101": 105, "resnet152": 156,
}  # fmt: skip

LARGE = ("resnet101", "resnet152", "vgg16")  # they have the blocks of ResNet-50 and VGG19


def test_the_table_has_every_name() -> None:
    assert set(LAYERS) == set(NAMED_ARCHITECTURES)


@pytest.mark.parametrize(
    "arch", [pytest.param(arch, marks=[pytest.mark.trial] * (arch in LARGE)) for arch in NAMED_ARCHITECTURES]
)
def test_every_named_network_can_be_explained(arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, recorded = built(arch), []
    convolutions = [name for name, part in map_layers(network).items() if isinstance(part, nn.Conv2d)]

    def counted(of: Network, input_nchw: object) -> list[LayerMaps]:
        recorded.extend(all_maps(of, input_nchw))  # type: ignore[arg-type]
        return recorded

    preprocess = Preprocess(64, "squash", 1.0, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    checkpoint = checkpoint_of({}, Untrained(("cat", "狗"), MODEL, preprocess))
    monkeypatch.setattr(command, "read_checkpoint", lambda _: checkpoint)
    monkeypatch.setattr(Checkpoint, "network", lambda _: network)  # instead of writing 240 MB of ResNet152
    monkeypatch.setattr(command, "all_maps", counted)
    monkeypatch.setattr(filter_patterns, "STEPS", 1)
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)).save(photo)
    ends = [f"{convolutions[0]}:0-1", f"{convolutions[-1]}:0-1"]
    report = command.explain([photo], ends, tmp_path / "out", 10**6, Project(tmp_path))
    assert len(recorded) == LAYERS[arch]
    assert _files(tmp_path / "out") == sorted(
        ["activations", "evidence.png", *(f"filters_{end.replace(':', '_')}.png" for end in ends)]
    )
    assert [(layer, of) for layer, _, of in report.noise] == [(end.split(":")[0], 2) for end in ends]
    sheet = cv2.imread(str(tmp_path / "out" / "activations" / "photo.png"))
    assert len(np.unique(sheet)) > 2  # more than black maps on white


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
