from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from pipeline.base import frames, manifest
from pipeline.base.errors import DataError, LeakageError
from pipeline.base.files import read_json, sha256_of, write_json
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.evaluate import stage as module
from pipeline.evaluate.params import EvaluateParams
from pipeline.evaluate.stage import _nearest_neighbours, evaluate
from pipeline.network import fit_known_score, inference
from pipeline.network.backbones import build_body
from pipeline.network.calibration import UnknownThresholds
from pipeline.network.checkpoint import read_checkpoint
from pipeline.network.inference import Frames, infer
from tests.support.checkpoints import with_calibration
from tests.support.command import run_pipe
from tests.support.judged_frames import judged_frames
from tests.support.small_project import in_folds, set_params, small_project

CONTRACT = {
    "n_frames", "n_groups", "top1", "top1_all_frames", "top1_ci95", "top5", "group_top1", "group_top1_ci95",
    "baseline_majority", "baseline_knn", "macro_f1", "auc", "ece", "mse", "nll", "per_class", "confusion", "protocol",
    "optimistic", "counterfactual", "balanced_accuracy", "roc_auc", "average_precision", "confusion_normalised",
    "temperature", "uncalibrated", "reliability", "group_top1_by_vote", "film_more", "unknown",
    "unknown_false_alarms", "estimate", "refit", "as_device",
}  # fmt: skip


def _evaluated(project: Project) -> Any:
    evaluate(read_section(project.params_yaml, "evaluate", EvaluateParams), project)
    return read_json(project.evaluate_json)


def _predictions(project: Project) -> list[dict[str, str]]:
    with project.predictions_csv.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_value_of_the_contract_is_there_and_a_null_has_its_reason(exported: Project) -> None:
    value = read_json(exported.evaluate_json)
    assert set(value) >= CONTRACT
    for key in CONTRACT - {"optimistic"}:
        assert value[key] is not None or value[f"{key}_reason"], key


def test_the_numbers_are_those_of_the_predictions(exported: Project) -> None:
    value, rows = read_json(exported.evaluate_json), _predictions(exported)
    assert value["n_frames"] == len(rows) == 16
    assert value["top1"] == np.mean([row["predicted"] == row["label"] for row in rows])
    assert value["n_groups"] == len({row["group"] for row in rows}) == 4
    assert sum(map(sum, value["confusion"])) == 16
    assert value["baseline_majority"] == 0.5


def test_a_judged_frame_is_compared_with_a_part_of_very_many_training_frames(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_compared: list[int] = []
    fit = KNeighborsClassifier.fit

    def counted(self: Any, features: Any, truth: Any) -> Any:
        n_compared.append(len(features))
        return fit(self, features, truth)

    monkeypatch.setattr(KNeighborsClassifier, "fit", counted)
    judged = judged_frames(project, [0, 1] * 12, [(3, 0), (0, 2)] * 12, ("a", "b"))
    judged.rows[:20] = [dataclasses.replace(row, split="train") for row in judged.rows[:20]]
    inputs = Mock(
        calibrations={None: None},
        params=Mock(knn_neighbours=1),
        is_learned=lambda row, _: row.split == "train",
        is_judged=lambda row, _: row.split == "test",
    )
    whole = _nearest_neighbours(inputs, judged)
    monkeypatch.setattr(fit_known_score, "MOST_PICTURES", 7)
    part = _nearest_neighbours(inputs, judged)
    assert n_compared == [20, 6]  # three of the ten of each class
    assert [row.path for row in part.rows] == [row.path for row in judged.rows[20:]]
    assert np.array_equal(whole.probabilities, np.eye(2)[judged.truth[20:]])
    assert np.array_equal(part.probabilities, whole.probabilities)


def test_frames_and_clips_below_the_threshold_are_counted_and_no_other_number_changes(exported: Project) -> None:
    checkpoint = read_checkpoint(exported.checkpoint)

    def evaluated_at(threshold: float) -> dict[str, Any]:
        fitted = UnknownThresholds(threshold, threshold, 0.1)
        calibration = dataclasses.replace(checkpoint.calibration, unknown=fitted, unknown_reason=None)
        with_calibration(checkpoint, calibration).write(exported.checkpoint)
        return _evaluated(exported)

    nothing_refused, rows = evaluated_at(-3.0), _predictions(exported)
    assert nothing_refused["unknown_false_alarms"] == {"frames": 0.0, "groups": 0.0}
    scores = [float(row["score"]) for row in rows]
    last = max(zip(scores, rows, strict=True), key=lambda pair: pair[0])[1]
    threshold = max(value for value, row in zip(scores, rows, strict=True) if row["group"] != last["group"]) + 1e-4
    plain, judged = nothing_refused, evaluated_at(threshold)
    n_below = sum(score < threshold for score in scores)
    means = [
        np.mean([score for score, row in zip(scores, rows, strict=True) if row["group"] == group])
        for group in {row["group"] for row in rows}
    ]
    n_refused = sum(mean < threshold for mean in means)
    assert 0 < n_refused <= 4
    assert judged["unknown_false_alarms"] == {"frames": n_below / 16, "groups": n_refused / 4}
    assert (judged["as_device"]["refused"], judged["as_device"]["n_clips"]) == (n_refused, 4)
    changed = {name for name in judged if judged[name] != plain[name]} - {"digest", "made_from"}
    assert changed == {
        "checkpoint_sha256",
        "unknown",
        "unknown_false_alarms",
        "as_device",
    }


def test_with_folds_the_nearest_neighbours_of_a_clip_are_those_of_the_other_folds(tmp_path: Path) -> None:
    project = small_project(tmp_path / "folded")
    in_folds(project)
    rows = manifest.read_split(project.split_csv)
    first = [row for row in rows if row.fold == 0]  # its two clips look like the other class
    contents = [(project.root / row.path).read_bytes() for row in first]
    for row, content in zip(first, [*contents[4:], *contents[:4]], strict=True):
        (project.root / row.path).write_bytes(content)
    manifest.write_split(
        [dataclasses.replace(row, sha256=sha256_of(project.root / row.path)) for row in rows], project.split_csv
    )
    assert run_pipe(project.root, "train").returncode == 0
    checkpoint = read_checkpoint(project.checkpoint)
    model = checkpoint.model.model_copy(update={"weights": "imagenet"})  # else there are no nearest neighbours
    dataclasses.replace(checkpoint, model=model).write(project.checkpoint)
    judged = _evaluated(project)
    rows = manifest.read_split(project.split_csv)
    frames = Frames(project, rows, checkpoint.classes, checkpoint.preprocess)
    pooled = infer(checkpoint.network(), frames, 8, "frames")[0].numpy()
    folds, truth = np.array([row.fold for row in rows]), np.array([row.label for row in rows])

    def nearest_right(is_left_out: bool) -> np.ndarray:
        right = np.zeros(len(rows), bool)
        for fold in range(5):
            known = folds != fold if is_left_out else np.ones(len(rows), bool)
            neighbours = KNeighborsClassifier(5, metric="cosine").fit(pooled[known], truth[known])
            right[folds == fold] = neighbours.predict(pooled[folds == fold]) == truth[folds == fold]
        return right

    assert judged["baseline_knn"] == nearest_right(is_left_out=True).mean()
    assert judged["baseline_knn"] != nearest_right(is_left_out=False).mean()  # the negative control
    paired = judged["trained_against_knn"]
    assert paired["n_clips"] == len({row.group for row in rows}) == 10
    assert judged["left_out_classes"] is None
    assert judged["left_out_classes_reason"] == "found 2 classes; to leave one out needs 3"


def test_the_temperature_of_the_checkpoint_changes_confidence_and_the_uncalibrated_numbers_stay(
    exported: Project,
) -> None:
    checkpoint, evaluations = read_checkpoint(exported.checkpoint), []
    for temperature in (1.0, 4.0):
        calibration = dataclasses.replace(checkpoint.calibration, temperature=temperature, temperature_reason=None)
        with_calibration(checkpoint, calibration).write(exported.checkpoint)
        evaluations.append(_evaluated(exported))
    plain, softened = evaluations
    assert {name: plain[name] for name in ("ece", "mse", "nll")} == plain["uncalibrated"] == softened["uncalibrated"]
    assert (plain["temperature"], softened["temperature"]) == (1.0, 4.0)
    assert softened["nll"] != plain["nll"]
    assert softened["top1"] == plain["top1"]
    assert softened["reliability"]["uncalibrated"] == plain["reliability"]["calibrated"]
    assert (
        softened["reliability"]["calibrated"][-1]["confidence"] < plain["reliability"]["calibrated"][-1]["confidence"]
    )


def test_what_to_film_next_is_counted_in_clips_and_every_clip_has_a_row(exported: Project) -> None:
    value = read_json(exported.evaluate_json)
    advice = value["film_more"]
    assert advice["held_out"] > 0
    assert advice["film"] == np.ceil(advice["held_out"] * 10 / 4)  # 4 of the 10 clips are held out
    with (exported.plots / "verdicts.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == value["n_groups"]
    assert sum(row["verdict"] == row["label"] for row in rows) == value["groups_right"]
    assert sum(int(row["frames"]) for row in rows) == value["n_frames"]
    assert np.mean([row["vote"] == row["label"] for row in rows]) == value["group_top1_by_vote"]
    assert sum(of_class["groups"] for of_class in value["per_class"].values()) == value["n_groups"]


def test_screened_out_frames_count_only_among_all_frames(exported: Project) -> None:
    rows = manifest.read_split(exported.split_csv)
    dropped = [row.path for row in rows if row.split == "test"][:3]
    blue = next(row.path for row in rows if row.split == "test" and row.label != "red")
    for path in dropped:  # a red clip's frames that show the other class, as an accident of filming would
        shutil.copy(exported.root / blue, exported.root / path)
    marked = [dataclasses.replace(row, kept=row.path not in dropped) for row in rows]
    manifest.write_split(marked, exported.split_csv)
    value, predictions = _evaluated(exported), _predictions(exported)
    right = {row["path"]: row["predicted"] == row["label"] for row in predictions}
    assert (value["n_frames"], len(predictions)) == (13, 16)
    assert value["top1"] == np.mean([right[path] for path in right if path not in dropped])
    assert value["top1_all_frames"] == np.mean(list(right.values())) < value["top1"]


def test_a_split_without_test_frames_is_refused(exported: Project) -> None:
    rows = [row for row in manifest.read_split(exported.split_csv) if row.split != "test"]
    manifest.write_split(rows, exported.split_csv)
    before = exported.evaluate_json.read_bytes()
    with pytest.raises(DataError, match="no kept frame in test"):
        _evaluated(exported)
    assert exported.evaluate_json.read_bytes() == before


def test_a_split_that_says_it_is_random_is_judged_and_called_optimistic(exported: Project) -> None:
    rows = manifest.read_split(exported.split_csv)
    swapped = {"train": "test", "test": "train"}
    shuffled = [
        dataclasses.replace(row, split=swapped.get(row.split, row.split)) if index % 3 == 0 else row
        for index, row in enumerate(rows)
    ]
    manifest.write_split(shuffled, exported.split_csv)
    with pytest.raises(LeakageError):
        _evaluated(exported)
    exported.split_json.write_text(json.dumps({"protocol": "random", "optimistic": "at random"}))
    evaluation = _evaluated(exported)
    resplit = "the split is not the one of the training, which may have seen these frames"
    assert (evaluation["protocol"], evaluation["optimistic"]) == ("random", f"at random; {resplit}")


def test_another_split_than_that_of_the_training_is_called_optimistic(exported: Project) -> None:
    assert _evaluated(exported)["optimistic"] is None
    swapped = {"train": "test", "test": "train"}
    rows = [
        dataclasses.replace(row, split=swapped.get(row.split, row.split))
        for row in manifest.read_split(exported.split_csv)
    ]
    manifest.write_split(rows, exported.split_csv)
    assert "which may have seen these frames" in _evaluated(exported)["optimistic"]


def test_a_leak_is_refused_before_anything_is_judged(exported: Project) -> None:
    rows = manifest.read_split(exported.split_csv)
    groups = {row.split: row.group for row in rows}
    planted = [dataclasses.replace(row, group=groups["train"]) if row.split == "test" else row for row in rows]
    manifest.write_split(planted, exported.split_csv)
    with pytest.raises(LeakageError):
        _evaluated(exported)


def test_a_class_that_the_checkpoint_does_not_know_is_named(exported: Project) -> None:
    rows = manifest.read_split(exported.split_csv)
    renamed = [dataclasses.replace(row, label="green") if row.label == "red" else row for row in rows]
    manifest.write_split(renamed, exported.split_csv)
    with pytest.raises(DataError, match="found the class 'green'; the checkpoint knows"):
        _evaluated(exported)


def test_a_checkpoint_whose_answers_are_no_numbers_is_refused(exported: Project) -> None:
    value = torch.load(exported.checkpoint, weights_only=True)
    value["state_dict"]["head.classify.0.weight"][0] = 3e38  # finite, and its sums are not
    torch.save(value, exported.checkpoint)
    with pytest.raises(DataError, match=r"checkpoint\.pt: found logits that are not finite numbers; train again"):
        _evaluated(exported)


@pytest.mark.parametrize("caveat", [None, "one photograph per class"])
def test_a_caveat_of_the_split_becomes_optimistic(exported: Project, caveat: str | None) -> None:
    exported.split_json.write_text(json.dumps({"protocol": "grouped", "optimistic": caveat}))
    headline = evaluate(read_section(exported.params_yaml, "evaluate", EvaluateParams), exported).headline
    assert read_json(exported.evaluate_json)["optimistic"] == caveat
    assert ("optimistic" in headline) == (caveat is not None)


def test_a_head_that_its_own_clips_have_chosen_is_called_optimistic(exported: Project) -> None:
    inputs = Mock(project=exported, by_folds=True)
    inputs.checkpoint.selection, inputs.checkpoint.fingerprints = "last", {"data": None}
    assert module._optimistic(inputs, None) is None
    write_json(exported.adapt_json(), {"chosen": "head"})
    assert module._optimistic(inputs, None) == "train.adapt: auto chose the head by clips that judge it"
    inputs.by_folds = False  # opened blocks, which the test side judges
    assert module._optimistic(inputs, None) is None


def test_an_epoch_chosen_on_the_test_frames_is_called_optimistic(exported: Project) -> None:
    value = torch.load(exported.checkpoint, weights_only=True)
    torch.save(value | {"selection": "best_test"}, exported.checkpoint)
    for caveat, expected in (
        (None, "the epoch was chosen on the test frames"),
        ("one photograph per class", "one photograph per class; the epoch was chosen on the test frames"),
    ):
        exported.split_json.write_text(json.dumps({"protocol": "grouped", "optimistic": caveat}))
        assert _evaluated(exported)["optimistic"] == expected


@pytest.mark.parametrize("freeze", ["all", "none"])
def test_with_a_pretrained_backbone_the_price_of_a_shuffle_is_reported(tmp_path: Path, freeze: str) -> None:
    project = small_project(tmp_path / "project")
    weights = tmp_path / "weights.pt"
    torch.save(build_body("resnet18", "none", plain=False).backbone.state_dict(), weights)
    set_params(project, model={"weights": str(weights), "freeze": freeze}, train={"epochs": 1})
    for stage in ("train", "evaluate"):
        finished = run_pipe(project.root, stage)
        assert finished.returncode == 0, finished.stderr
    value = read_json(project.evaluate_json)
    price = value["counterfactual"]
    assert value["counterfactual_reason"] is None
    assert (price["n_frames"], price["n_groups"], price["n_folds"]) == (40, 10, 5)
    assert 0 <= price["grouped"] <= 1
    assert value["baseline_knn"] > 0.5


def _start_from_a_file(project: Project, freeze: str) -> None:
    """Let the checkpoint say that its network started from weights of a file."""
    weights = project.root / "weights.pt"
    torch.save(build_body("resnet18", "none", plain=False).backbone.state_dict(), weights)
    value = torch.load(project.checkpoint, weights_only=True)
    value["model"] |= {"weights": str(weights), "freeze": freeze}
    torch.save(value, project.checkpoint)


@pytest.mark.parametrize("freeze", ["all", "none"])
def test_what_a_backbone_that_training_left_alone_says_of_a_frame_is_computed_once(
    exported: Project, monkeypatch: pytest.MonkeyPatch, freeze: str
) -> None:
    _start_from_a_file(exported, freeze)
    shutil.rmtree(exported.cache)  # what `train` has computed
    decoded = list[str]()
    monkeypatch.setattr(inference, "FEW_IMAGES", 10**9)  # in this process, where frames can be counted

    def read_frame(project: Project, row: manifest.Row) -> np.ndarray:
        decoded.append(row.path)
        return frames.read_frame(project, row)

    monkeypatch.setattr(inference, "read_frame", read_frame)
    first, n_first = _evaluated(exported), len(decoded)
    decoded.clear()
    assert _evaluated(exported) == first
    assert n_first - len(decoded) == 40
    assert bool(decoded) is (freeze == "none")  # a trained backbone changes with every training


def test_without_pretrained_weights_there_is_a_reason_instead(exported: Project) -> None:
    value = read_json(exported.evaluate_json)
    assert value["counterfactual"] is None
    assert "random weights" in value["counterfactual_reason"]


@pytest.mark.parametrize("freeze", ["all", "none"])
def test_the_price_of_a_shuffle_is_that_of_frames_alone_not_of_copies_or_of_what_is_unused(
    exported: Project, freeze: str
) -> None:
    _start_from_a_file(exported, freeze)
    rows = manifest.read_split(exported.split_csv)
    tested = [row for row in rows if row.split == "test"]
    copies = [dataclasses.replace(row, path=f"{row.path}.copy.jpg", parent=row.path) for row in tested]
    for copy in copies:
        shutil.copy(exported.root / copy.parent, exported.root / copy.path)
    unused = [dataclasses.replace(row, split="unused") if row.split == "val" else row for row in rows]
    manifest.write_split([*unused, *copies], exported.split_csv)
    exported.split_json.write_text(
        json.dumps({"protocol": "random", "optimistic": "at random", "augmented_in_test": True})
    )
    value = _evaluated(exported)
    assert value["n_frames"] == 2 * len(tested)
    assert value["counterfactual"]["n_frames"] == len(rows) - sum(row.split == "val" for row in rows)
