from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from command import run_pipe
from onnx import numpy_helper
from small_project import COLOURS

from export.parity import Comparison, judge
from pipeline import manifest
from pipeline.files import Project, read_json, sha256_of
from pipeline.manifest import Row
from pipeline.params import ParityParams
from runtime.contract import Variant

PARAMS = ParityParams(max_logit_difference=3e-4, flip_margin=1e-3, golden_frames=8, golden_max_side=512)
VARIANT = Variant("fp32", "model.onnx", "0" * 64, "fp32", 1, 0.001)
CONTRACT = {
    "n_samples", "max_abs_logit_difference", "logit_range", "top1_agreement", "flips", "flips_outside_margin", "top1",
    "top1_drop", "worst_class_drop", "graph_sha256", "verdict", "reasons",
}  # fmt: skip


def _perturb(project: Project, change: Callable[[onnx.ModelProto], None], *, hide: bool) -> None:
    """Change the graph; `hide` also writes its new hash and size into the contract, so that only parity can notice."""
    path = project.onnx / "model.onnx"
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    if hide:
        contract = read_json(project.contract_json)
        contract["variants"][0] |= {"sha256": sha256_of(path), "bytes": path.stat().st_size}
        project.contract_json.write_text(json.dumps(contract))


def _change_a_weight(model: onnx.ModelProto) -> None:
    last = next(node for node in model.graph.node if "logits" in node.output)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == last.input[-1])
    values = numpy_helper.to_array(bias).copy()
    values[0] += 0.5
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))


def _swap_channels(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.name in ("preprocess/scale", "preprocess/bias"):
            values = numpy_helper.to_array(tensor).copy()
            tensor.CopyFrom(numpy_helper.from_array(values[:, ::-1] * np.float32(1.1), tensor.name))


def test_an_untouched_graph_passes_on_every_held_out_frame(exported: Project) -> None:
    value = read_json(exported.parity_json)
    fp32 = value["variants"]["fp32"]
    assert value["passed"]
    assert set(fp32) >= CONTRACT
    assert fp32["n_samples"] == 16
    assert fp32["flips"] == 0
    assert fp32["max_abs_logit_difference"] <= 3e-4 * fp32["logit_range"]
    assert fp32["top1"] == read_json(exported.evaluate_json)["top1_all_frames"]
    assert fp32["graph_sha256"] == sha256_of(exported.onnx / "model.onnx")


@pytest.mark.parametrize("change", [_change_a_weight, _swap_channels])
def test_a_perturbed_graph_fails_and_the_report_is_written_first(
    exported: Project, change: Callable[[onnx.ModelProto], None]
) -> None:
    _perturb(exported, change, hide=True)
    finished = run_pipe(exported.root, "parity")
    assert finished.returncode == 3
    assert "parity FAILED" in finished.stderr
    fp32 = read_json(exported.parity_json)["variants"]["fp32"]
    assert fp32["verdict"] == "failed"
    assert fp32["reasons"]


def test_a_recorded_failure_lets_the_chain_go_on_to_the_report(exported: Project) -> None:
    _perturb(exported, _change_a_weight, hide=True)
    finished = run_pipe(exported.root, "parity", "--record")
    assert finished.returncode == 0
    assert "FAILED" in finished.stdout
    assert not read_json(exported.parity_json)["passed"]


def test_a_graph_that_is_not_the_contracts_is_refused_by_its_hash(exported: Project) -> None:
    _perturb(exported, _change_a_weight, hide=False)
    finished = run_pipe(exported.root, "parity")
    assert finished.returncode == 1
    assert "model.onnx" in finished.stderr


def test_nothing_is_compared_where_no_frame_is_held_out(exported: Project) -> None:
    rows = [row for row in manifest.read_split(exported.split_csv) if row.split != "test"]
    manifest.write_split(rows, exported.split_csv)
    assert run_pipe(exported.root, "parity").returncode == 1


def test_golden_frames_show_every_class_and_carry_both_answers(exported: Project) -> None:
    golden = read_json(exported.golden / "golden.json")
    assert {sample["label"] for sample in golden["samples"]} == set(COLOURS)
    assert len(golden["samples"]) == len(golden["logits"]["torch"]) == len(golden["logits"]["fp32"]) == 8
    assert np.allclose(golden["logits"]["torch"], golden["logits"]["fp32"], atol=1e-4)
    pixels_hwc = np.load(exported.golden / "000.npy")
    assert pixels_hwc.shape == (40, 56, 3)


def test_flips_are_listed_with_both_margins(exported: Project) -> None:
    def negate(model: onnx.ModelProto) -> None:
        last = next(node for node in model.graph.node if "logits" in node.output)
        last.output[0] = "positive"
        model.graph.node.append(onnx.helper.make_node("Neg", ["positive"], ["logits"]))

    _perturb(exported, negate, hide=True)
    assert run_pipe(exported.root, "parity").returncode == 3
    with exported.flips_csv.open(encoding="utf-8", newline="") as file:
        flips = list(csv.DictReader(file))
    assert len(flips) == 16
    assert all(float(flip["torch_margin"]) > 0 for flip in flips)


def _comparison(torch_logits: list[list[float]], graph_logits: list[list[float]]) -> Comparison:
    row = Row("data/frames/a.jpg", "a", "a", "", "a")
    both = (np.array(logits, np.float32) for logits in (torch_logits, graph_logits))
    return Comparison([row] * len(torch_logits), np.zeros(len(torch_logits), np.int64), *both)


def test_a_flip_within_the_margin_is_counted_and_forgiven() -> None:
    numbers = judge(_comparison([[5.0, -5.0], [1.0, 1.0001]], [[5.0, -5.0], [1.0001, 1.0]]), PARAMS, VARIANT)
    assert (numbers["flips"], numbers["flips_outside_margin"], numbers["verdict"]) == (1, 0, "passed")


def test_a_flip_outside_the_margin_is_not_forgiven() -> None:
    numbers = judge(_comparison([[5.0, -5.0], [1.0, 2.0]], [[5.0, -5.0], [2.0, 1.0]]), PARAMS, VARIANT)
    assert numbers["flips_outside_margin"] == 1
    assert numbers["verdict"] == "failed"


def test_a_difference_beyond_the_share_of_the_range_fails_without_any_flip() -> None:
    numbers = judge(_comparison([[5.0, -5.0]], [[5.01, -5.0]]), PARAMS, VARIANT)
    assert numbers["flips"] == 0
    assert numbers["verdict"] == "failed"


def test_the_params_decide_what_is_allowed() -> None:
    lenient = dataclasses.replace(VARIANT), PARAMS.model_copy(update={"max_logit_difference": 0.1})
    assert judge(_comparison([[5.0, -5.0]], [[5.01, -5.0]]), lenient[1], lenient[0])["verdict"] == "passed"
