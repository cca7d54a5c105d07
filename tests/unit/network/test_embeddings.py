"""Features of a frozen backbone: the same as inference computes, computed once, whatever mode the network is in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx

from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.network import backbones, embeddings
from pipeline.network.embeddings import frozen_embeddings, infer_frozen
from pipeline.network.inference import Frames, embed, infer
from pipeline.network.network import Network, build_network
from pipeline.network.params import ModelParams
from pipeline.network.preprocess import Preprocess
from pipeline.params import read_params
from tests.support.small_project import COLOURS, small_project


@pytest.fixture
def small(tmp_path: Path) -> Project:
    return small_project(tmp_path / "small")


@pytest.fixture
def network(small: Project) -> Network:
    torch.manual_seed(0)
    model: ModelParams = read_params(small.params_yaml).model
    return build_network(model, 32, len(COLOURS))


def _frames(project: Project, n: int = 12) -> Frames:
    rows = manifest.read_split(project.split_csv)[:n]
    return Frames(project, rows, sorted(COLOURS), Preprocess(32, "squash", 1.0, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))


@pytest.mark.parametrize("training", [False, True])
def test_the_features_are_those_of_inference_and_the_network_is_left_as_it_was(
    small: Project, network: Network, training: bool
) -> None:
    network.train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = frozen_embeddings(network, _frames(small), 5)
    assert network.training is training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    expected, expected_logits = infer(network.eval(), _frames(small), 5, "frames")
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)
    of_frames, logits = infer_frozen(network, _frames(small), 5)
    assert np.array_equal(of_frames.array(), found)
    np.testing.assert_allclose(logits, expected_logits.numpy(), rtol=1e-5, atol=1e-6)


def test_the_features_are_computed_once(small: Project, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    first = frozen_embeddings(network, _frames(small), 5)
    monkeypatch.setattr(embeddings, "embed", lambda *_, **__: pytest.fail("computed again"))
    assert np.array_equal(frozen_embeddings(network, _frames(small), 5), first)
    torch.nn.init.zeros_(network.head.classify[0].weight)  # the head takes no part
    assert np.array_equal(frozen_embeddings(network, _frames(small), 5), first)
    assert np.array_equal(frozen_embeddings(network, _frames(small, 11), 5), first[:11])
    for changed in (
        lambda: frozen_embeddings(network, _frames(small, 13), 5),
        lambda: frozen_embeddings(network, _frames(small, 11), 4),
        lambda: _with_another_backbone(small, network),
    ):
        with pytest.raises(pytest.fail.Exception, match="computed again"):
            changed()


def test_another_version_of_a_library_of_networks_computes_the_features_anew(
    small: Project, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen_embeddings(network, _frames(small), 5)
    monkeypatch.setattr(embeddings, "embed", lambda *_, **__: pytest.fail("computed again"))
    known = metadata.version
    monkeypatch.setattr(backbones.metadata, "version", lambda name: "0.1" if name == "timm" else known(name))
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        frozen_embeddings(network, _frames(small), 5)


def _with_another_backbone(small: Project, network: Network) -> None:
    with torch.no_grad():
        next(network.backbone.parameters()).add_(1.0)
    frozen_embeddings(network, _frames(small), 5)


def test_only_new_frames_are_computed_and_give_the_features_of_a_run_without_a_cache(
    small: Project, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = list[int]()

    def counting(network: Network, frames: Frames, *arguments: Any, **named: Any) -> Iterator[torch.Tensor]:
        computed.append(len(frames))
        yield from embed(network, frames, *arguments, **named)

    monkeypatch.setattr(embeddings, "embed", counting)
    frozen_embeddings(network, _frames(small, 3), 5)
    in_parts = frozen_embeddings(network, _frames(small, 12), 5)
    assert computed == [3, 9]
    shutil.rmtree(small.cache)
    assert np.array_equal(frozen_embeddings(network, _frames(small, 12), 5), in_parts)


def test_batches_above_32_share_their_features(
    small: Project, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = frozen_embeddings(network, _frames(small), 32)
    monkeypatch.setattr(embeddings, "embed", lambda *_, **__: pytest.fail("computed again"))
    assert np.array_equal(frozen_embeddings(network, _frames(small), 100), first)


def test_no_frames_are_an_error(small: Project, network: Network) -> None:
    with pytest.raises(DataError, match=r"^features of the frames: no frames; expected at least one$"):
        frozen_embeddings(network, _frames(small, 0), 5)


def test_parts_of_a_network_that_end_elsewhere_have_features_of_their_own(small: Project) -> None:
    model = read_params(small.params_yaml).model.model_copy(update={"arch": "resnet18", "weights": "none"})
    network = build_network(model, 32, len(COLOURS)).eval()
    graph = fx.symbolic_trace(network.backbone).graph
    of_part = {}
    for end in ("layer3_0_relu_1", "layer3_1_relu_1"):  # the same shape, and the same layers in the module
        part, copies = fx.Graph(), dict[fx.Node, fx.Node]()
        for node in graph.nodes:
            copies[node] = part.node_copy(node, copies.__getitem__)
            if node.name == end:
                part.output(copies[node])
                break
        module = fx.GraphModule(network.backbone, part)
        frozen = Network(module, torch.nn.Identity(), network.head, network.size)
        of_part[end] = frozen_embeddings(frozen, _frames(small), 5)
    first, second = of_part.values()
    assert first.shape == second.shape
    assert not np.array_equal(first, second)
