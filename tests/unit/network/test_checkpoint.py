from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.base.errors import DataError
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.network.calibration import calibration_to_plain
from pipeline.network.checkpoint import Checkpoint, class_numbers, read_checkpoint
from pipeline.network.network import build_network, build_preprocess
from pipeline.params import read_params
from tests.support.checkpoints import NOT_FITTED, Untrained, checkpoint_of
from tests.support.command import ROOT
from tests.support.small_project import COLOURS

PARAMS = read_params(ROOT / "params.yaml")
CLASSES = ("flake", "powder")
PLAIN = calibration_to_plain(NOT_FITTED)
GEOMETRY = {"size": 32, "crop": "squash", "center_fraction": 1.0, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


def _checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    model = PARAMS.model.model_copy(update={"arch": "resnet18", "weights": "none"})
    preprocess = build_preprocess(model, PARAMS.image.model_copy(update={"size": 32}))
    network = build_network(model, 32, len(CLASSES))
    return checkpoint_of(network.state_dict(), Untrained(CLASSES, model, preprocess), data="0" * 64)


def test_a_checkpoint_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = _checkpoint()
    written.write(tmp_path / "checkpoint.pt")
    read = read_checkpoint(tmp_path / "checkpoint.pt")
    assert list(read.state_dict) == list(written.state_dict)
    assert all(torch.equal(value, written.state_dict[name]) for name, value in read.state_dict.items())
    assert dataclasses.replace(read, state_dict={}) == dataclasses.replace(written, state_dict={})


def test_the_rebuilt_network_is_in_eval_mode_and_has_the_weights_of_the_checkpoint() -> None:
    checkpoint = _checkpoint()
    network = checkpoint.network()
    assert not network.training
    assert all(torch.equal(value, checkpoint.state_dict[name]) for name, value in network.state_dict().items())


def test_a_missing_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"checkpoint.pt: missing; run `pipe train`"):
        read_checkpoint(tmp_path / "models" / "checkpoint.pt")


def _row(label: str) -> Row:
    return Row("frame.jpg", label, "clip", "0" * 64, "clip", width=1, height=1, split="test")


def test_class_numbers_are_those_of_the_logits() -> None:
    rows = [_row(label) for label in ("powder", "flake", "powder")]
    assert class_numbers(rows, _checkpoint(), Project(ROOT)).tolist() == [1, 0, 1]


def test_a_class_that_the_checkpoint_does_not_know_is_refused() -> None:
    with pytest.raises(DataError, match="found the class 'green'; the checkpoint knows flake, powder; train again"):
        class_numbers([_row("green")], _checkpoint(), Project(ROOT))


def test_a_checkpoint_rebuilds_the_network_without_params_yaml(exported: Project) -> None:
    exported.params_yaml.unlink()
    checkpoint = read_checkpoint(exported.checkpoint)
    assert checkpoint.classes == tuple(sorted(COLOURS))
    assert checkpoint.network()(torch.zeros(1, 3, 32, 32)).shape == (1, 2)
    assert checkpoint.fingerprints["data"] is not None


def test_the_checkpoint_holds_plain_values_and_says_what_is_not_fitted(exported: Project) -> None:
    value = torch.load(exported.checkpoint, weights_only=True)
    calibration = value["calibration"]
    assert calibration["temperature"] is not None
    assert calibration["unknown"] is None
    assert calibration["unknown_reason"] == "2 clips or photos to calibrate on; thresholds need 10"


@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_a_broken_checkpoint_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a file of plain tensors"):
        read_checkpoint(path)


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    for version, shown in ((99, "99"), (torch.zeros(3), "Tensor"), ("x" * 10_000, "str")):
        torch.save({"format_version": version}, path)
        with pytest.raises(DataError, match=f"found checkpoint format {shown}; expected 6"):
            read_checkpoint(path)


def _as_format_5(tmp_path: Path, **model: str) -> Path:
    path = tmp_path / "checkpoint.pt"
    _checkpoint().write(path)
    value = torch.load(path, weights_only=True)
    value["format_version"] = 5
    value["model"].update(model)
    torch.save(value, path)
    return path


def test_a_checkpoint_of_format_5_is_still_read(tmp_path: Path) -> None:
    read = read_checkpoint(_as_format_5(tmp_path))
    assert all(torch.equal(value, read.state_dict[name]) for name, value in _checkpoint().state_dict.items())
    assert read_checkpoint(_as_format_5(tmp_path, arch="timm:convnext_atto", head="plain")).model.head == "plain"


def test_a_checkpoint_of_format_5_that_was_pooled_otherwise_is_refused(tmp_path: Path) -> None:
    message = r"checkpoint.pt: found checkpoint format 5 of timm:convnext_atto, .*; run `pipe train`$"
    with pytest.raises(DataError, match=message):
        read_checkpoint(_as_format_5(tmp_path, arch="timm:convnext_atto"))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        *[
            ("calibration", {**PLAIN, "temperature": value, "temperature_reason": None}, "found the temperature")
            for value in (0.0, -1.0, math.nan, math.inf)
        ],
        ("calibration", {**PLAIN, "temperature": "1", "temperature_reason": None}, "found '1'; expected a number"),
        ("calibration", {}, "unknown"),
        ("estimate", "luck", "found the estimate 'luck'"),
        ("refit", "some", "refit 'some'"),
        ("refit", "all", "learned from all clips and is judged on held-out ones"),
        ("learned_from", [3], "found 3; expected a text"),
        ("classes", ["flake", "flake"], "expected different names"),
        ("classes", ["flake", 3], "found 3; expected a text"),
        ("state_dict", {"weight": 1.0}, "found no state dict"),
        ("model", {"arch": "resnet18", "no_such_key": 1}, "no_such_key"),
        ("preprocess", {}, "missing"),
        ("preprocess", {**GEOMETRY, "mean": [math.nan, 0.5, 0.5]}, "expected finite numbers"),
        ("preprocess", {**GEOMETRY, "size": 10**9}, "expected a size"),
        ("preprocess", {**GEOMETRY, "std": [0.5, 0.5, 0.0]}, "expected a size, a crop, and mean and std"),
        ("preprocess", {**GEOMETRY, "center_fraction": 10**400}, "int too large"),
        ("sample_bits", 99, "expected 9 to 16"),
        ("calibration", {**PLAIN, "unknown": torch.zeros(3)}, "unknown|attribute|ambiguous"),
        ("selection", 7, "found 7; expected a text"),
    ],
)
def test_a_value_that_would_change_every_answer_is_refused(
    tmp_path: Path, field: str, value: object, message: str
) -> None:
    path = tmp_path / "checkpoint.pt"
    _checkpoint().write(path)
    assert read_checkpoint(path).calibration == NOT_FITTED  # the negative control
    torch.save({**torch.load(path, weights_only=True), field: value}, path)
    with pytest.raises(DataError, match=rf"checkpoint.pt: a value of the checkpoint does not fit \(.*{message}"):
        read_checkpoint(path)


def test_a_checkpoint_without_a_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    _checkpoint().write(path)
    values = torch.load(path, weights_only=True)
    del values["selection"]
    torch.save(values, path)
    with pytest.raises(DataError, match="'selection'"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {name: value for name, value in state.items() if name != "head.classify.0.bias"},
        lambda state: state | {"head.classify.0.bias": torch.zeros(99)},
        lambda state: state | {"head.classify.0.bias": torch.zeros(2, dtype=torch.int64)},
    ],
)
def test_weights_of_another_network_are_refused_in_one_line(change: Callable[[Any], Any]) -> None:
    checkpoint = _checkpoint()
    checkpoint.network()  # the negative control
    assert "head.classify.0.bias" in checkpoint.state_dict
    with pytest.raises(
        DataError, match=r"^checkpoint.pt: its weights do not fit its network \([^\n]*head.classify.0.bias"
    ):
        replace(checkpoint, state_dict=change(checkpoint.state_dict)).network()
