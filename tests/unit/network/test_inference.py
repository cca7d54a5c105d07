from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.network import inference
from pipeline.network.inference import Frames, infer
from pipeline.network.network import Network
from tests.support.explained_networks import network_of
from tests.support.small_project import small_project
from tests.support.training_images import CLASSES, PREPROCESS


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return small_project(tmp_path_factory.mktemp("inference") / "project")


def _network() -> Network:
    torch.manual_seed(0)
    return network_of(nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.ReLU()), 8)


def _frames(project: Project, n: int) -> Frames:
    return Frames(project, manifest.read_split(project.split_csv)[:n], CLASSES, PREPROCESS)


@pytest.mark.parametrize("few_images", [64, 1])  # in this process, and in loader processes
def test_embeddings_and_logits_are_those_of_each_frame_in_order(
    small: Project, monkeypatch: pytest.MonkeyPatch, few_images: int
) -> None:
    monkeypatch.setattr(inference, "FEW_IMAGES", few_images)
    frames, network = _frames(small, 7), _network()
    embeddings, logits = infer(network, frames, 3, "frames")
    with torch.inference_mode():
        expected = network.cpu().embed(torch.stack([frames[i][0] for i in range(7)]))
        assert torch.allclose(embeddings, expected, atol=1e-5)
        assert torch.allclose(logits, network.head(expected), atol=1e-5)


def test_a_frame_comes_with_its_class_number(small: Project) -> None:
    frames = _frames(small, 7)
    assert [int(frames[i][1]) for i in range(7)] == [CLASSES.index(row.label) for row in frames.rows]


def test_no_frames_are_refused(small: Project) -> None:
    with pytest.raises(DataError, match="held-out frames: no frames; expected at least one"):
        infer(_network(), _frames(small, 0), 3, "held-out frames")
