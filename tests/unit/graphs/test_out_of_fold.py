"""Every graph asked with the head and the score of each fold: faults that only some folds show are found."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from export.graphs.fold_heads import FoldHeads
from export.graphs.gates import FAILED, PASSED
from export.graphs.out_of_fold import FoldRoute, JudgedFrames, ask_folds, read_judged_frames
from export.graphs.score_graph import weights_of_score
from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.files import read_json, sha256_of, write_json
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.network.calibration import Calibration, UnknownThresholds
from pipeline.network.checkpoint import read_checkpoint
from pipeline.network.out_of_fold import FoldHead, read_fold_heads, write_fold_heads
from runtime.answers import Answers
from runtime.contract import Contract, Variant
from tests.support.checkpoints import a_known_score
from tests.support.command import run_pipe
from tests.support.gates import GATES
from tests.support.small_project import in_folds, small_project
from tests.support.tiny_bundle import draft_contract


@pytest.fixture(scope="module")
def _folded(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = small_project(tmp_path_factory.mktemp("folds") / "folded")
    in_folds(project)
    for stage in ("train", "export"):
        finished = run_pipe(project.root, stage)
        assert finished.returncode == 0, finished.stderr
    return project


@pytest.fixture
def folded(_folded: Project, tmp_path: Path) -> Project:
    """A small project that folds judge, after train and export; a copy for each test."""
    return Project(shutil.copytree(_folded.root, tmp_path / "folded"))


def _read(project: Project) -> JudgedFrames:
    return read_judged_frames(manifest.read_split(project.split_csv), read_checkpoint(project.checkpoint), project)


def _variants(project: Project) -> dict[str, Variant]:
    return {variant.name: variant for variant in Contract.read(project.contract_json).variants}


def test_a_graph_with_the_head_and_score_of_a_fold_answers_as_torch_does(folded: Project) -> None:
    judged, variants = _read(folded), _variants(folded)
    assert read_json(folded.contract_json)["unknown_score"] == "known_score"
    routes = dict(zip(variants, ask_folds(judged, variants, folded), strict=True))
    found = routes["fp32"].answers
    np.testing.assert_allclose(found.logits, judged.torch.logits, atol=1e-3)
    np.testing.assert_allclose(found.scores, judged.torch.scores, atol=1e-3)
    assert {name: judged.judge(route, GATES).verdict for name, route in routes.items() if name != "int8"} == {
        name: PASSED for name in routes if name != "int8"
    }


@pytest.mark.parametrize("part", ["state_dict", "known_score"])
def test_a_fold_with_the_head_of_another_fold_or_the_score_of_other_pictures_fails(folded: Project, part: str) -> None:
    first, second, *others = read_fold_heads(folded.fold_heads)
    if part == "known_score":
        swapped = [replace(head, known_score=a_known_score(512)) for head in (first, second)]
    else:
        swapped = [replace(first, state_dict=second.state_dict), replace(second, state_dict=first.state_dict)]
    write_fold_heads([*swapped, *others], folded.fold_heads)
    judged, fp32 = _read(folded), {"fp32": _variants(folded)["fp32"]}
    (route,) = ask_folds(judged, fp32, folded)
    judgement = judged.judge(route, GATES)
    assert judgement.verdict == FAILED
    assert ("largest score difference" if part == "known_score" else "largest logit difference") in " ".join(
        judgement.reasons
    )
    is_of_swapped = np.array([row.fold in (0, 1) for row in judged.rows])
    np.testing.assert_allclose(route.answers.logits[~is_of_swapped], judged.torch.logits[~is_of_swapped], atol=1e-3)


def test_a_graph_that_holds_another_head_gives_no_number_and_says_why(folded: Project) -> None:
    checkpoint = read_checkpoint(folded.checkpoint)
    name = next(name for name in checkpoint.state_dict if name.startswith("head."))
    checkpoint.state_dict[name] = checkpoint.state_dict[name] + 1
    checkpoint.write(folded.checkpoint)
    judged, variants = _read(folded), _variants(folded)
    (route,) = ask_folds(judged, {"fp32": variants["fp32"]}, folded)
    assert route.problem == f"the graph does not hold {name} in floating point, so no fold can judge it"
    assert np.isnan(route.answers.logits).all()
    judgement = judged.judge(route, GATES)
    assert (judgement.verdict, judgement.reasons) == (FAILED, (route.problem,))


def test_a_variant_that_preprocesses_otherwise_gives_no_number_and_says_why(folded: Project) -> None:
    judged, variants = _read(folded), _variants(folded)
    path = folded.onnx / variants["fp16"].file
    model = onnx.load(path)
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "preprocess/bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 1, bias.name))
    onnx.save(model, path)
    of_fp32, of_fp16 = ask_folds(judged, {name: variants[name] for name in ("fp32", "fp16")}, folded)
    assert (of_fp32.problem, of_fp16.problem) == (None, "its preprocessing is not that of the other variants")
    assert np.isnan(of_fp16.answers.logits).all()


def test_a_frame_without_a_line_out_of_fold_is_named(folded: Project) -> None:
    table = folded.out_of_fold_csv()
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    table.write_text("".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(DataError, match="no line of data/frames/"):
        _read(folded)


def _planted(scores: np.ndarray) -> tuple[JudgedFrames, FoldRoute]:
    """Forty photos of two classes in two folds, all right, with these scores."""
    n = len(scores)
    rows = [Row(f"{i}.jpg", "ab"[i % 4 // 2], f"{i}", "", f"photo {i}", fold=i % 2) for i in range(n)]
    truth = np.array([i % 4 // 2 for i in range(n)])
    logits = np.where(np.arange(2) == truth[:, None], 3.0, 0.0).astype(np.float32)
    calibration = Calibration(1.0, None, UnknownThresholds(0.0, 0.0, 0.1), None)
    heads = [FoldHead({"classify.0.weight": torch.zeros(2, 3)}, calibration, a_known_score(3)) for _ in range(2)]
    folds = FoldHeads({"head.classify.0.weight": torch.zeros(2, 3)}, heads)
    answers = Answers(logits, scores.astype(np.float32))
    (variant,) = draft_contract().variants
    return JudgedFrames(rows, truth, answers, folds, ("a", "b"), True), FoldRoute(variant, answers, None)


def test_the_thresholds_of_a_graph_are_those_of_each_fold_on_its_own_scale() -> None:
    scores = np.linspace(-1, 3, 40)
    judged, route = _planted(scores)
    n_below = int((scores < 0).sum())
    assert (judged.clip_answers(route).n_clips, judged.clip_answers(route).refused) == (40, n_below)
    shifted = replace(route, answers=replace(route.answers, scores=(scores - 5).astype(np.float32)))
    assert judged.clip_answers(shifted).refused == n_below
    one_fold = np.where(np.arange(40) % 2 == 1, scores - 5, scores)  # its thresholds come from the other fold's scores
    other = replace(route, answers=replace(route.answers, scores=one_fold.astype(np.float32)))
    assert judged.clip_answers(other).refused == 20


def test_frames_that_a_graph_alone_takes_for_none_of_the_classes_are_counted() -> None:
    scores = np.linspace(-1, 3, 40)
    judged, route = _planted(scores)
    alike = judged.judge(route, GATES)
    assert (alike.unknown, alike.unknown_flips) == (int((scores < 0).sum()), 0)
    moved = scores.copy()
    moved[20:26] = -0.5  # known to torch
    other = replace(route, answers=replace(route.answers, scores=moved.astype(np.float32)))
    found = judged.judge(replace(other, variant=replace(route.variant, precision="int8")), GATES)
    assert found.unknown_flips >= 6
    assert (found.verdict, "taken for none of the classes" in " ".join(found.reasons)) == (FAILED, True)


def test_folds_without_thresholds_refuse_nothing() -> None:
    judged, route = _planted(np.linspace(-1, 3, 40))
    unfitted = Calibration(1.0, None, None, "not wanted")
    heads = [replace(head, calibration=unfitted) for head in judged.folds.heads]
    none = replace(judged, folds=FoldHeads(judged.folds.shipped, heads))
    assert (none.clip_answers(route).refused, none.clip_answers(route).right) == (0, 40)


def test_export_judges_the_smaller_graphs_by_the_folds(folded: Project) -> None:
    first, *others = read_fold_heads(folded.fold_heads)
    turned = {name: -value for name, value in first.state_dict.items()}  # it calls each class the other one
    write_fold_heads([replace(first, state_dict=turned), *others], folded.fold_heads)
    finished = run_pipe(folded.root, "export")
    assert finished.returncode == 0, finished.stderr
    report = read_json(folded.export_json)
    by_precision = {trial["precision"]: trial for trial in report["trials"] if trial["verdict"] != "not judged"}
    assert by_precision["fp16"]["verdict"] == FAILED
    assert by_precision["fp16"]["flips"] == 8  # every frame of the fold, and no other
    assert [variant["name"] for variant in read_json(folded.contract_json)["variants"]] == ["fp32"]


def test_parity_lists_the_flips_that_it_counts_out_of_fold(folded: Project) -> None:
    first, *others = read_fold_heads(folded.fold_heads)
    turned = {name: -value for name, value in first.state_dict.items()}  # it calls each class the other one
    write_fold_heads([replace(first, state_dict=turned), *others], folded.fold_heads)
    run_pipe(folded.root, "parity")
    with folded.flips_csv.open(encoding="utf-8", newline="") as file:
        listed = Counter(line["variant"] for line in csv.DictReader(file))
    counted = {name: each["flips"] for name, each in read_json(folded.parity_json)["variants"].items()}
    assert {name: listed[name] for name in counted} == counted
    assert counted["fp16"] == 8  # every frame of the fold


def test_parity_fails_where_the_graph_that_ships_computes_another_score(folded: Project) -> None:
    path = folded.onnx / "model.onnx"
    assert run_pipe(folded.root, "parity").returncode == 0
    assert read_json(folded.parity_json)["variants"]["fp32"]["verdict"] == PASSED
    model = onnx.load(path)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, values in weights_of_score(model, a_known_score(512, seed=1)).items():
        tensors[name].CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(model, path)
    contract = read_json(folded.contract_json)
    (variant,) = (variant for variant in contract["variants"] if variant["name"] == "fp32")
    variant["sha256"], variant["bytes"] = sha256_of(path), path.stat().st_size
    write_json(folded.contract_json, contract)
    run_pipe(folded.root, "parity")
    fp32 = read_json(folded.parity_json)["variants"]["fp32"]
    assert fp32["verdict"] == FAILED
    reasons = {route: judgement["reasons"] for route, judgement in fp32["routes"].items()}
    assert reasons["model.onnx"][0].startswith("largest score difference")
    assert reasons["out of fold"] == []  # there each fold has a score of its own
