from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from export.against.other_resize import compare_resize
from export.export.params import ExportParams
from export.export.stage import ExportReport, export
from export.graphs.params import ParityParams
from export.parity.results import ParityReport
from export.parity.stage import parity
from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.files import read_json, sha256_of
from pipeline.base.project import Project
from pipeline.base.section import read_section
from runtime.classifier import Classifier
from runtime.errors import ContractError, DeviceError
from tests.support.command import ROOT, run_pipe
from tests.support.small_project import COLOURS, set_params

CONTRACT = {
    "n_samples", "max_abs_logit_difference", "logit_range", "top1_agreement", "flips", "flips_outside_margin", "top1",
    "top1_drop", "worst_class_drop", "graph_sha256", "verdict", "reasons",
}  # fmt: skip


def _perturb(
    project: Project, change: Callable[[onnx.ModelProto], None], *, hide: bool, file: str = "model.onnx"
) -> None:
    """Change a graph; `hide` also writes its new hash and size into the contract, so that only parity can notice."""
    path = project.onnx / file
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    if hide:
        contract = read_json(project.contract_json)
        variant = next(each for each in contract["variants"] if each["file"] == file)
        variant |= {"sha256": sha256_of(path), "bytes": path.stat().st_size}
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


def _negate(model: onnx.ModelProto) -> None:
    last = next(node for node in model.graph.node if "logits" in node.output)
    last.output[0] = "positive"
    model.graph.node.append(onnx.helper.make_node("Neg", ["positive"], ["logits"]))


def _parity(project: Project) -> ParityReport:
    """Run the stage in this process, which saves the seconds that another takes to start."""
    return parity(read_section(project.params_yaml, "parity", ParityParams), project)


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
    assert all(variant["blame"] is None for variant in value["variants"].values())  # nothing to explain


@pytest.mark.parametrize(
    ("change", "part", "where"),
    [(_change_a_weight, "graph", "head.classify.0/Gemm"), (_swap_channels, "pixels", "normalisation")],
)
def test_a_perturbed_graph_fails_and_the_report_is_written_first_and_says_where(
    exported: Project, change: Callable[[onnx.ModelProto], None], part: str, where: str
) -> None:
    _perturb(exported, change, hide=True)
    finished = run_pipe(exported.root, "parity")
    assert finished.returncode == 3
    assert "parity FAILED" in finished.stderr
    fp32 = read_json(exported.parity_json)["variants"]["fp32"]
    assert fp32["verdict"] == "failed"
    assert fp32["reasons"]
    assert fp32["blame"]["part"] == part
    assert fp32["blame"]["layer"]["name"] == where


def test_a_recorded_failure_lets_the_chain_go_on_to_the_report(exported: Project) -> None:
    _perturb(exported, _change_a_weight, hide=True)
    finished = run_pipe(exported.root, "parity", "--record")
    assert finished.returncode == 0
    assert "FAILED" in finished.stdout
    assert not read_json(exported.parity_json)["passed"]


def test_a_graph_that_is_not_the_contracts_is_refused_by_its_hash(exported: Project) -> None:
    _perturb(exported, _change_a_weight, hide=False)
    with pytest.raises(ContractError, match=r"model\.onnx"):
        _parity(exported)


def test_nothing_is_compared_where_no_frame_is_held_out(exported: Project) -> None:
    rows = [row for row in manifest.read_split(exported.split_csv) if row.split != "test"]
    manifest.write_split(rows, exported.split_csv)
    with pytest.raises(DataError):
        _parity(exported)


def _export(project: Project) -> ExportReport:
    params = read_section(project.params_yaml, "export", ExportParams)
    return export(params, read_section(project.params_yaml, "parity", ParityParams), project)


@pytest.mark.parametrize("stage", [_export, _parity, partial(compare_resize, "pil")])
def test_a_class_that_the_checkpoint_does_not_know_is_named(exported: Project, stage: Callable[[Project], Any]) -> None:
    rows = manifest.read_split(exported.split_csv)
    manifest.write_split(
        [dataclasses.replace(row, label="green") if row.label == "red" else row for row in rows], exported.split_csv
    )
    with pytest.raises(DataError, match="found the class 'green'; the checkpoint knows red, 蓝色; train again"):
        stage(exported)


def test_golden_frames_show_every_class_and_carry_both_answers(exported: Project) -> None:
    golden = read_json(exported.golden / "golden.json")
    assert {sample["label"] for sample in golden["samples"]} == set(COLOURS)
    assert len(golden["samples"]) == len(golden["logits"]["torch"]) == len(golden["logits"]["fp32"]) == 8
    assert np.allclose(golden["logits"]["torch"], golden["logits"]["fp32"], atol=1e-4)
    pixels_hwc = np.load(exported.golden / "000.npy")
    assert pixels_hwc.shape == (40, 56, 3)


def test_flips_are_listed_with_both_margins_and_drawn(exported: Project) -> None:
    without = cv2.imread(str(exported.flips_csv.with_suffix(".png")))
    _perturb(exported, _negate, hide=True)
    fp32 = _parity(exported).variants["fp32"]
    drawn = cv2.imread(str(exported.flips_csv.with_suffix(".png")))
    assert drawn.shape[0] > 5 * without.shape[0]  # which says that nothing flips
    assert fp32.blame is not None
    assert fp32.blame.parts is not None
    assert fp32.blame.parts["graph"].flips == fp32.blame.n_frames == 16
    with exported.flips_csv.open(encoding="utf-8", newline="") as file:
        flips = list(csv.DictReader(file))
    assert len(flips) == 16
    assert all(float(flip["torch_margin"]) > 0 for flip in flips)


def test_every_way_to_the_logits_is_compared(exported: Project) -> None:
    value = read_json(exported.parity_json)
    assert set(value["variants"]) == {"fp32", "fp16", "int8"}
    assert set(value["variants"]["fp32"]["routes"]) >= {"model.onnx", "preprocess.onnx, core.onnx"}
    assert list(value["variants"]["fp32"]["odd_sizes"]) == ["1x1", "5000x3", "7680x4320"]
    recommended = read_json(exported.contract_json)["recommended"]
    assert value["variants"][recommended]["routes"]["bundle"]["n_samples"] == 16
    for variant in value["variants"].values():
        assert all(route["n_samples"] == 16 for route in variant["routes"].values())


def test_a_size_that_the_graph_cannot_run_fails_and_the_report_is_there_all_the_same(
    exported: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = Classifier.logits

    def out_of_memory(classifier: Classifier, images_nhwc: NDArray[np.uint8]) -> NDArray[np.float32]:
        if images_nhwc.shape[1:3] == (4320, 7680):
            raise DeviceError("model.onnx: onnxruntime failed (no memory)")
        return logits(classifier, images_nhwc)

    monkeypatch.setattr(Classifier, "logits", out_of_memory)
    assert not _parity(exported).passed
    fp32 = read_json(exported.parity_json)["variants"]["fp32"]
    assert fp32["odd_sizes"]["7680x4320"] is None
    assert fp32["odd_sizes"]["1x1"] is not None
    assert fp32["reasons"] == ["a picture of 7680x4320: model.onnx: onnxruntime failed (no memory)"]


def test_int8_on_eight_frames_a_class_is_undecidable_and_says_what_it_needs(exported: Project) -> None:
    value = read_json(exported.parity_json)
    int8 = value["variants"]["int8"]
    assert int8["verdict"] == "undecidable"
    assert int8["reasons"] == ["too few frames to tell (red 8, 蓝色 8); at least 10 of each class are needed"]
    assert value["passed"]
    assert value["recommended"] != "int8"


def test_int8_that_holds_passes_where_the_frames_suffice_and_a_broken_one_does_not(exported: Project) -> None:
    gate = {"max_top1_drop": 0.01, "max_worst_class_drop": 0.02, "min_class_frames": 8}
    set_params(exported, parity={"int8": gate})
    assert _parity(exported).variants["int8"].verdict == "passed"
    _perturb(exported, _negate, hide=True, file="model_int8.onnx")
    report = _parity(exported)
    assert report.passed  # fp32 still computes what was trained
    assert report.variants["int8"].verdict == "failed"
    assert report.to_json()["variants"]["int8"]["blame"]["part"] == "precision"
    assert "right answers" in report.variants["int8"].reasons[0]
    assert report.recommended != "int8"
    assert "int8: " in report.headline


@pytest.mark.parametrize("file", ["model_int8.onnx", "core.onnx"])
def test_a_truncated_graph_is_refused_by_name(exported: Project, file: str) -> None:
    path = exported.onnx / file
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises((DataError, ContractError), match=file):
        _parity(exported)


def test_a_core_that_compilers_take_is_held_to_torch_too(exported: Project) -> None:
    _perturb(exported, _change_a_weight, hide=False, file="core.onnx")
    fp32 = _parity(exported).variants["fp32"]
    assert fp32.routes["model.onnx"].verdict == "passed"
    assert fp32.reasons[0].startswith("preprocess.onnx, core.onnx: largest logit difference")
    assert fp32.blame is not None
    assert (fp32.blame.route, fp32.blame.part) == ("preprocess.onnx, core.onnx", "graph")


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_an_8k_picture_needs_bounded_memory(exported: Project) -> None:
    program = (
        "import sys; import numpy as np; from pathlib import Path; "
        "from runtime.classifier import Classifier; c = Classifier(Path(sys.argv[1]), Path(sys.argv[2]), 'fp32'); "
        "c.logits(np.zeros((1, 4320, 7680, 3), np.uint8)); c.logits(np.zeros((1, 3, 5000, 3), np.uint8)); "
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    command = [sys.executable, "-c", program, str(exported.contract_json), str(exported.onnx)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    megabytes = int(finished.stdout) / 1024
    # The picture is 100 MB, as floats four times that; 730 MB were measured with the libraries.
    assert megabytes < 1000
