from __future__ import annotations

import ast
import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx.external_data_helper import uses_external_data

from export.export import stage, torch_export
from export.export.params import ExportParams
from export.export.record import CalibrationSet, ExporterTrial, ExportRecord
from export.export.reference_frames import ReferenceFrames
from export.export.torch_export import Attempt
from export.graphs.params import ParityParams
from export.graphs.preprocess_graph import join, preprocess_graph
from export.graphs.split_graph import SplitGraph
from export.parity.blame import TrainedNetwork, blame
from export.parity.stage import parity
from pipeline.base.errors import GateError
from pipeline.base.files import read_json, sha256_of
from pipeline.base.manifest import read_split
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.network.calibration import Calibration, UnknownThresholds
from pipeline.network.checkpoint import read_checkpoint
from runtime.classifier import Classifier
from runtime.contract import Contract
from runtime.system.processor import processor_name
from tests.support.checkpoints import with_calibration
from tests.support.gates import GATES
from tests.support.small_project import set_params


def test_the_contract_lists_every_chosen_variant_as_it_lies_on_disk(exported: Project) -> None:
    contract = Contract.read(exported.contract_json)
    assert {variant.name: variant.file for variant in contract.variants} == {
        "fp32": "model.onnx", "fp16": "model_fp16.onnx", "int8": "model_int8.onnx"
    }  # fmt: skip
    assert contract.recommended == contract.variants[0].name
    for variant in contract.variants:
        path = exported.onnx / variant.file
        assert (variant.sha256, variant.bytes) == (sha256_of(path), path.stat().st_size)
        assert variant.precision == variant.name
    sizes = {variant.name: variant.bytes for variant in contract.variants}
    assert sizes["int8"] < 0.3 * sizes["fp32"]
    assert sizes["fp16"] < 0.51 * sizes["fp32"]


def test_a_quantised_variant_has_a_tolerance_of_its_own(exported: Project) -> None:
    contract = Contract.read(exported.contract_json)
    assert contract.variant("fp32").golden_tolerance == 0.001
    assert contract.variant("int8").golden_tolerance > 0.001
    assert contract.variant("fp16").golden_tolerance >= 0.015


def test_the_contract_names_the_processor_of_the_times(exported: Project) -> None:
    assert Contract.read(exported.contract_json).timed_on == processor_name()


def test_every_graph_is_whole_valid_and_names_its_contract(exported: Project) -> None:
    contract = Contract.read(exported.contract_json)
    names = {"preprocess.onnx", "core.onnx", "core_batch1.onnx", "model.onnx", "model_fp16.onnx", "model_int8.onnx"}
    assert {path.name for path in exported.onnx.iterdir()} == names
    for name in names:
        model = onnx.load(exported.onnx / name)
        onnx.checker.check_model(model, full_check=True)
        metadata = {each.key: each.value for each in model.metadata_props}
        names_of_classes = ast.literal_eval(metadata.pop("names", "None"))
        assert names_of_classes == (None if name == "preprocess.onnx" else dict(enumerate(contract.classes)))
        assert metadata == contract.metadata()
        assert model.ir_version <= 10
        assert not any(uses_external_data(tensor) for tensor in model.graph.initializer)


def unreadable_names(model: onnx.ModelProto) -> list[str]:
    """The names that are missing, used twice, or do not begin with a part of the network; repeated domains too."""
    nodes, tensors = (
        [node.name for node in model.graph.node],
        [name for node in model.graph.node for name in node.output],
    )
    tensors += [tensor.name for tensor in model.graph.initializer]
    domains = [entry.domain for entry in model.opset_import]
    repeated = [name for each in (nodes, tensors, domains) for name, times in Counter(each).items() if times > 1]
    ours = ("preprocess/", "backbone", "pool", "head", "input", "logits", "stem_", "graph_")
    return repeated + [name for name in (*nodes, *tensors) if not name.startswith(ours)]


def test_every_node_and_constant_is_named_once_and_after_its_module(exported: Project) -> None:
    parts = ("core.onnx", "core_batch1.onnx", "model.onnx", "model_fp16.onnx", "model_int8.onnx")
    assert {name: unreadable_names(onnx.load(exported.onnx / name)) for name in parts} == {name: [] for name in parts}
    names = {node.name for node in onnx.load(exported.onnx / "model.onnx").graph.node}
    assert names > {"preprocess/first_narrow", "backbone.conv1/Conv", "backbone.layer2.0.downsample.0/Conv"}


def test_a_nameless_node_a_repeated_name_and_a_repeated_domain_are_noticed(exported: Project) -> None:
    model = onnx.load(exported.onnx / "model.onnx")
    model.graph.node[0].name = ""
    model.graph.node[2].name = model.graph.node[1].name
    model.graph.node[-1].name = "node_Conv_869"
    model.opset_import.append(model.opset_import[0])
    assert unreadable_names(model) == [model.graph.node[1].name, "", "", "node_Conv_869"]


def test_preprocessing_stays_float_in_every_variant(exported: Project) -> None:
    for name in ("model_int8.onnx", "model_fp16.onnx"):
        model = onnx.load(exported.onnx / name)
        scale = next(each for each in model.graph.initializer if each.name == "preprocess/scale")
        assert scale.data_type == onnx.TensorProto.FLOAT
        resize = next(node for node in model.graph.node if node.op_type == "Resize")
        assert next(node for node in model.graph.node if resize.input[0] in node.output).op_type == "Cast"


def test_the_report_says_what_was_tried_and_on_which_frames(exported: Project) -> None:
    report = read_json(exported.export_json)
    assert report["judged_on"] == "val"
    assert report["n_frames"] == 8
    assert report["calibration"] == {"n_frames": 16, "n_clips": 4, "by_class": {"red": 8, "蓝色": 8}}
    assert report["exporters"] == [
        {"exporter": "dynamo", "opset": 18, "batch": "dynamic", "verdict": "passed", "reasons": []}
    ]
    assert [trial["name"] for trial in report["trials"]][:2] == ["fp32", "fp16"]
    assert sum(trial["chosen"] for trial in report["trials"]) == 3
    assert all(trial["distance"] is not None for trial in report["trials"])
    assert [trial["verdict"] == "not judged" for trial in report["trials"]].count(False) == 3


def _frames(project: Project) -> ReferenceFrames:
    checkpoint = read_checkpoint(project.checkpoint)
    inputs_nchw = np.random.default_rng(0).normal(size=(20, 3, 32, 32)).astype(np.float32)
    with torch.inference_mode():
        answers = checkpoint.answers(checkpoint.network(), torch.from_numpy(inputs_nchw))
    return ReferenceFrames(checkpoint.classes, answers.logits.argmax(axis=1), inputs_nchw, answers)


def _try_exporters(project: Project) -> list[ExporterTrial]:
    opset = read_section(project.params_yaml, "export", ExportParams).opset
    return stage._try_exporters(read_checkpoint(project.checkpoint), opset, GATES, _frames(project))


def _wrong(network: Any, size: int, attempt: Attempt) -> onnx.ModelProto:
    """Export as a broken exporter would: a bias is off."""
    model = torch_export.core_graph(network, size, Attempt("legacy", attempt.opset, attempt.batch))
    last = next(node for node in model.graph.node if "logits" in node.output)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == last.input[-1])
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32([1, 0]), bias.name))
    return model


def test_an_exporter_that_fails_parity_is_followed_by_the_next_and_the_reason_kept(
    exported: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = stage.core_graph
    monkeypatch.setattr(
        stage,
        "core_graph",
        lambda network, size, attempt: (_wrong if attempt.exporter == "dynamo" else right)(network, size, attempt),
    )
    tried = _try_exporters(exported)
    assert [each.attempt for each in tried] == [Attempt("dynamo", 18), Attempt("legacy", 18)]
    assert [each.trial.verdict for each in tried] == ["failed", "passed"]
    assert "largest logit difference" in tried[0].trial.reasons[0]


def test_no_frame_that_screening_dropped_judges_a_graph(exported: Project, tmp_path: Path) -> None:
    rows = read_split(exported.split_csv)
    first = next(row for row in rows if row.split == "val")
    dropped = [dataclasses.replace(row, kept=row is not first) for row in rows]
    checkpoint = read_checkpoint(exported.checkpoint)
    with patch.object(stage, "reference_frames", side_effect=lambda rows, *_: rows):
        judging = stage._frames_to_judge(dropped, checkpoint, [], exported, tmp_path)
        everything = stage._frames_to_judge(rows, checkpoint, [], exported, tmp_path)
    assert {row.path for row in everything} - {row.path for row in judging} == {first.path}
    assert len(judging) > 0


def test_where_no_exporter_agrees_nothing_is_exported_and_the_report_says_how_not(
    exported: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crashes(*_: object) -> onnx.ModelProto:
        raise RuntimeError("cannot export\n  aten::strange")

    monkeypatch.setattr(stage, "core_graph", crashes)
    record = ExportRecord("fast", "val", 20, CalibrationSet(0, 0, {}), _try_exporters(exported))
    with pytest.raises(
        GateError, match=r"no exporter gives .* \(dynamo, opset 18, dynamic batch: cannot be made \(cannot export"
    ):
        stage._first_that_agrees(record, {"models/checkpoint.pt": "0" * 64}, exported)
    value = read_json(exported.export_json)
    assert value["wrote"] == {}  # so that no bundle takes the graphs of an earlier run for its own
    tried = value["exporters"]
    assert [each["opset"] for each in tried] == [18, 18, 21, 21] * 2
    assert [each["batch"] for each in tried] == ["dynamic"] * 4 + ["fixed"] * 4


def test_where_no_dynamic_batch_agrees_a_batch_of_one_is_exported_proven_and_runs(
    exported: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    right = stage.core_graph

    def only_of_one_picture(network: Any, size: int, attempt: Attempt) -> onnx.ModelProto:
        if attempt.batch == "dynamic" and attempt != Attempt("dynamo", 18):
            raise RuntimeError("the batch is not what it was")
        return (_wrong if attempt.batch == "dynamic" else right)(network, size, attempt)

    monkeypatch.setattr(stage, "core_graph", only_of_one_picture)
    set_params(exported, export={"max_megapixels": 1})
    gates = read_section(exported.params_yaml, "parity", ParityParams)
    stage.export(read_section(exported.params_yaml, "export", ExportParams), gates, exported)
    tried = read_json(exported.export_json)["exporters"]
    assert [each["verdict"] for each in tried] == ["failed"] * 4 + ["passed"]
    assert "largest logit difference" in tried[0]["reasons"][0]
    assert tried[3]["reasons"] == ["cannot be made (the batch is not what it was)"]
    for name in ("model.onnx", "model_int8.onnx", "core.onnx"):
        assert onnx.load(exported.onnx / name).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    judged = parity(gates, exported).variants  # in batches of 7, 2 and 1, and in a process of its own
    assert judged["fp32"].verdict == "passed"
    pictures_nhwc = np.random.default_rng(0).integers(0, 256, (3, 40, 56, 3), dtype=np.uint8)
    classifier = Classifier(exported.contract_json, exported.onnx)
    together = classifier.logits(pictures_nhwc)
    assert np.array_equal(together, np.concatenate([classifier.logits(each[None]) for each in pictures_nhwc]))


def test_a_graph_of_one_picture_can_be_explained(exported: Project) -> None:
    checkpoint = read_checkpoint(exported.checkpoint)
    core = torch_export.core_graph(checkpoint.network(), 32, Attempt("dynamo", 18, "fixed"))
    wrong = _wrong(checkpoint.network(), 32, Attempt("dynamo", 18, "fixed"))
    joined = join(preprocess_graph(checkpoint.preprocess, 18), wrong)
    pictures = list(np.random.default_rng(0).integers(0, 256, (6, 1, 40, 56, 3), dtype=np.uint8))
    trained = TrainedNetwork(checkpoint.preprocess, checkpoint.network())
    graph = SplitGraph.of(joined)
    explanation = blame(graph, graph.core, "fp32", trained, pictures)
    assert (explanation.part, explanation.n_frames) == ("graph", 6)
    assert explanation.layer is not None
    assert explanation.layer.operator == "Gemm"
    sound = SplitGraph.of(join(preprocess_graph(checkpoint.preprocess, 18), core))
    assert blame(sound, sound.core, "fp32", trained, pictures).layer is None  # the negative control


def test_the_contract_carries_temperature_and_threshold_of_the_checkpoint_or_why_there_is_none(
    exported: Project,
) -> None:
    contract, checkpoint = read_json(exported.contract_json), read_checkpoint(exported.checkpoint)
    assert contract["temperature"] == checkpoint.calibration.temperature
    assert contract["temperature_reason"] == checkpoint.calibration.temperature_reason
    assert contract["unknown_score"] is None
    assert contract["unknown_score_reason"] == "2 clips or photos to calibrate on; thresholds need 10"
    calibration = Calibration(1.5, None, UnknownThresholds(0.25, 0.5, 0.1), None)
    fitted = with_calibration(checkpoint, calibration)
    draft = stage._draft(fitted, read_section(exported.params_yaml, "export", ExportParams), 18)
    assert (draft.unknown_score, draft.unknown_false_alarms) == ("known_score", 0.1)
    assert (draft.variants[0].unknown_threshold, draft.variants[0].unknown_threshold_clip) == (0.25, 0.5)
