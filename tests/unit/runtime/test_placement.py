"""Which provider ran the nodes of a graph, read from onnxruntime's profile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runtime import Classifier
from runtime.errors import DeviceError
from runtime.placement import read_placement
from runtime.session import Opening
from tests.support.tiny_bundle import draft_contract, picture, write_models

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def run(provider: str, node: str, microseconds: int, operator: str = "Conv") -> dict[str, Any]:
    arguments = {"provider": provider, "op_name": operator}
    return {"cat": "Node", "name": f"{node}_kernel_time", "dur": microseconds, "args": arguments}


def write(tmp_path: Path, events: object) -> Path:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(events), encoding="utf-8")
    return path


def test_a_node_counts_once_and_its_time_each_time(tmp_path: Path) -> None:
    session = {"cat": "Session", "name": "model_run", "dur": 99, "args": {}}
    events = [session, run(CPU, "a", 10), run(CUDA, "b", 20), run(CUDA, "c", 20), run(CPU, "a", 30), run(CUDA, "b", 0)]
    found = read_placement(write(tmp_path, events))
    assert found.nodes == {CUDA: 2, CPU: 1}
    assert list(found.nodes) == [CUDA, CPU]
    assert found.time_shares == {CPU: 0.5, CUDA: 0.5}
    assert (found.n_nodes, found.nodes_on(CUDA), found.nodes_on("TensorrtExecutionProvider")) == (3, 2, 0)


def test_copying_to_a_device_is_no_computing_there(tmp_path: Path) -> None:
    events = [run(CUDA, "copy", 50, "MemcpyFromHost"), run(CUDA, "back", 50, "MemcpyToHost"), run(CPU, "a", 10)]
    assert read_placement(write(tmp_path, events)).nodes == {CPU: 1}


def test_no_run_at_all_is_no_division_by_zero(tmp_path: Path) -> None:
    found = read_placement(write(tmp_path, []))
    assert (found.n_nodes, found.time_shares) == (0, {})


@pytest.mark.parametrize(
    "text", ["", "[{", "{}x", '[{"cat": "Node"}]', "[1]", '[{"cat": "Node", "name": "a_kernel_time"}]']
)
def test_a_profile_that_cannot_be_read_is_reported_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(DeviceError, match=r"profile\.json: onnxruntime's profile cannot be read") as caught:
        read_placement(path)
    assert "\n" not in str(caught.value)


def test_a_profile_of_onnxruntime_is_read(tmp_path: Path) -> None:
    write_models(tmp_path / "contract.json", tmp_path, draft_contract())
    classifier = Classifier.load(tmp_path, opening=Opening(profile=tmp_path / "run"))
    classifier.classify(picture(0))
    path = classifier.end_profile()
    assert path.parent == tmp_path
    found = read_placement(path)
    assert sum(found.time_shares.values()) == pytest.approx(1)
    assert found.n_nodes == 3
    classifier.classify(picture(0))  # works without a profile
