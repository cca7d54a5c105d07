from __future__ import annotations

import pytest
import torch

from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.network import inference
from pipeline.network.inference import Frames, forbid_tf32, infer
from tests.support.small_project import small_project
from tests.support.training_images import CLASSES, PREPROCESS, tiny_network


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return small_project(tmp_path_factory.mktemp("inference") / "project")


def _frames(project: Project, n: int) -> Frames:
    return Frames(project, manifest.read_split(project.split_csv)[:n], CLASSES, PREPROCESS)


@pytest.mark.parametrize("few_images", [64, 1])  # in this process, and in loader processes
def test_embeddings_and_logits_are_those_of_each_frame_in_order(
    small: Project, monkeypatch: pytest.MonkeyPatch, few_images: int
) -> None:
    monkeypatch.setattr(inference, "FEW_IMAGES", few_images)
    frames, network = _frames(small, 7), tiny_network(small)
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
        infer(tiny_network(small), _frames(small, 0), 3, "held-out frames")


def test_tf32_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    forbid_tf32()
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
