"""Images, params and a tiny network for the tests of training's sources."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pipeline.base import manifest
from pipeline.base.project import Project
from pipeline.network.network import Network, build_network
from pipeline.network.preprocess import Preprocess
from pipeline.params import read_params
from pipeline.train.inputs.batches import Images, label_images
from pipeline.train.params import TrainParams
from tests.support.small_project import COLOURS

CPU = torch.device("cpu")
PREPROCESS = Preprocess(32, "squash", 1.0, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
CLASSES = sorted(COLOURS)
CHANNELS = 8
FLIP = {"name": "mirror_left_right", "probability": 0.5}
CROP = {"name": "random_resized_crop", "area": (0.3, 1.0), "aspect": (0.75, 1.3333)}


def images_of(project: Project, split: str) -> Images:
    """Return the images of one side of the split."""
    rows = [row for row in manifest.read_split(project.split_csv) if row.split == split]
    return label_images(project, rows, CLASSES, PREPROCESS)


def params_with(project: Project, *online: dict[str, Any], **changed: Any) -> TrainParams:
    """Return the project's section `train` with these random views and other changes."""
    values = read_params(project.params_yaml).train.model_dump()
    return TrainParams.model_validate({**values, "online": online, **changed})


def tiny_network(project: Project, seed: int = 0) -> Network:
    """Return a network whose backbone is one convolution with batch norm that has statistics."""
    network = build_network(read_params(project.params_yaml).model, 32, len(CLASSES))
    torch.manual_seed(seed)
    network.backbone = nn.Sequential(nn.Conv2d(3, CHANNELS, 5, 4), nn.BatchNorm2d(CHANNELS), nn.ReLU())
    network.backbone.train()(torch.randn(16, 3, 32, 32))
    return network.eval()
