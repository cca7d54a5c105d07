"""Fold heads: none has seen the clips that it judges, and what they say is kept for later stages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.base import manifest
from pipeline.base.files import sha256_of
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.network.checkpoint import read_checkpoint
from pipeline.network.inference import Frames, infer
from pipeline.network.known_score import KnownScore
from pipeline.network.network import build_network
from pipeline.network.out_of_fold import read_fold_heads, read_out_of_fold
from pipeline.network.params import ModelParams
from pipeline.params import read_params
from pipeline.train import folds as module
from pipeline.train import stage
from pipeline.train.folds import FoldData, Part, _answers, _calibrations, _inputs_of_fold
from pipeline.train.inputs.feature_cache import CachedFeatures
from runtime.answers import Answers
from tests.support.checkpoints import a_known_score
from tests.support.command import run_pipe
from tests.support.small_project import in_folds, set_params, small_project

_TINY = {
    "arch": "resnet18", "weights": "none", "freeze": "all", "head": "linear", "pooling": "average", "fc_widths": [],
    "fc_dropouts": [], "output": "softmax",
}  # fmt: skip


@pytest.fixture
def folded(tmp_path: Path) -> Project:
    project = small_project(tmp_path / "folded")
    in_folds(project)
    return project


def _judged(project: Project) -> list[Row]:
    return [row for row in manifest.read_split(project.split_csv) if not row.is_copy]


def test_each_clip_is_judged_by_the_head_that_has_not_seen_it(folded: Project) -> None:
    finished = run_pipe(folded.root, "train")
    assert finished.returncode == 0, finished.stderr
    checkpoint, heads, rows = read_checkpoint(folded.checkpoint), read_fold_heads(folded.fold_heads), _judged(folded)
    assert (checkpoint.estimate, checkpoint.refit, len(heads)) == ("folds", "all", 5)
    assert checkpoint.learned_from == tuple(sorted({row.source_sha256 for row in rows}))
    answers = read_out_of_fold(rows, checkpoint.classes, folded.out_of_fold_csv())
    logits = answers.logits
    network = checkpoint.network()
    for fold, head in enumerate(heads):
        network.head.load_state_dict(head.state_dict)
        of_fold = [position for position, row in enumerate(rows) if row.fold == fold]
        frames = Frames(folded, [rows[position] for position in of_fold], checkpoint.classes, checkpoint.preprocess)
        pooled, expected = infer(network, frames, 8, "frames")
        np.testing.assert_allclose(logits[of_fold], expected.numpy(), atol=1e-5)
        assert head.known_score is not None
        np.testing.assert_allclose(answers.scores[of_fold], head.known_score(pooled.numpy()), atol=1e-5)
        other_head = heads[(fold + 1) % 5]  # the negative control: another head gives other logits
        network.head.load_state_dict(other_head.state_dict)
        assert np.abs(infer(network, frames, 8, "frames")[1].numpy() - logits[of_fold]).max() > 1e-4


def test_no_head_sees_its_clips_or_their_copies(folded: Project) -> None:
    rows = manifest.read_split(folded.split_csv)
    copies = [
        replace(row, path=f"{row.path}.copy.jpg", parent=row.path, split="train" if row.split == "train" else "unused")
        for row in rows
    ]
    learned = [*rows, *copies]
    turns = torch.zeros(len(learned), 1, dtype=torch.int64)
    features = CachedFeatures(torch.zeros(len(learned), 1, 4), turns, turns[:, 0])
    data = FoldData(learned, features, rows, features)
    assert data.numbers == [0, 1, 2, 3, 4]
    for number in data.numbers:
        inputs = _inputs_of_fold(build_network(ModelParams.model_validate(_TINY), 32, 2), data, number)
        assert isinstance(inputs.train, Part)
        assert isinstance(inputs.watched["val"], Part)
        seen = {learned[position].group for position in inputs.train.positions}
        judged = {rows[position].group for position in inputs.watched["val"].positions}
        assert not seen & judged
        assert seen | judged == {row.group for row in rows}
        assert len(inputs.train) == 2 * sum(row.fold != number for row in rows)


def test_the_score_of_a_fold_has_not_seen_its_clips(folded: Project) -> None:
    def scores_of(project: Project) -> list[KnownScore]:
        assert run_pipe(project.root, "train").returncode == 0
        scores = [head.known_score for head in read_fold_heads(project.fold_heads)]
        return [score for score in scores if score is not None]

    before = scores_of(folded)
    rows = manifest.read_split(folded.split_csv)
    for row in rows:
        if row.fold == 0:  # other pictures in the clips of the first fold
            Image.new("RGB", (row.width, row.height), "white").save(folded.root / row.path)
    renewed = [replace(row, sha256=sha256_of(folded.root / row.path)) if row.fold == 0 else row for row in rows]
    manifest.write_split(renewed, folded.split_csv)
    after = scores_of(folded)
    is_same = [np.array_equal(old.middle, new.middle) for old, new in zip(before, after, strict=True)]
    assert is_same == [True, False, False, False, False]


def test_no_score_is_fitted_where_nothing_is_to_be_refused(folded: Project) -> None:
    set_params(folded, train={"unknown_false_alarms": None})
    assert run_pipe(folded.root, "train").returncode == 0
    checkpoint = read_checkpoint(folded.checkpoint)
    assert checkpoint.known_score is None
    assert [head.known_score for head in read_fold_heads(folded.fold_heads)] == [None] * 5
    answers = read_out_of_fold(_judged(folded), checkpoint.classes, folded.out_of_fold_csv())
    assert np.array_equal(answers.scores, answers.logits.max(axis=1))


@pytest.mark.parametrize(("n_clips", "rate_of_folds"), [(9, None), (10, 1 / 9), (40, 0.05)])
def test_folds_refuse_where_the_device_does_though_they_have_fewer_clips_to_calibrate_on(
    folded: Project, n_clips: int, rate_of_folds: float | None
) -> None:
    rows = [Row(f"{clip}.jpg", "a", f"{clip}", "", f"{clip}", fold=clip % 5) for clip in range(n_clips)]
    turns = torch.zeros(n_clips, 1, dtype=torch.int64)
    data = FoldData(rows, (of_all := CachedFeatures(torch.zeros(n_clips, 1, 4), turns, turns[:, 0])), rows, of_all)
    answers = Answers(np.tile(np.array([2, 1], np.float32), (n_clips, 1)), np.arange(n_clips, dtype=np.float32))
    whole, *of_folds = _calibrations(data, answers, read_params(folded.params_yaml).train)
    assert len(of_folds) == 5
    if rate_of_folds is None:
        reasons = {each.unknown_reason for each in (whole, *of_folds)}
        assert reasons == {"9 clips or photos to calibrate on; thresholds need 10"}
    else:
        assert whole.unknown is not None
        assert [each.unknown and each.unknown.false_alarms for each in of_folds] == [pytest.approx(rate_of_folds)] * 5


def test_a_recording_in_two_folds_is_refused(folded: Project) -> None:
    rows = manifest.read_split(folded.split_csv)
    manifest.write_split([replace(rows[0], fold=4), *rows[1:]], folded.split_csv)
    finished = run_pipe(folded.root, "train")
    assert finished.returncode == 3
    assert "is in fold 0" in finished.stderr
    assert "and fold 4" in finished.stderr


def test_a_part_of_a_source_gives_the_chosen_images() -> None:
    features = torch.arange(12.0).reshape(6, 1, 2)
    source = CachedFeatures(features, torch.zeros(6, 1, dtype=torch.int64), torch.arange(6))
    part = Part(source, [4, 1, 5])
    inputs, labels = part.batch([2, 0], 0, torch.device("cpu"))
    assert len(part) == 3
    assert labels.tolist() == [5, 4]
    assert inputs.tolist() == [[10.0, 11.0], [8.0, 9.0]]


def test_the_answers_of_a_fold_read_the_features_of_few_frames_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    n_read: list[int] = []

    @dataclass(frozen=True)
    class Counting(CachedFeatures):
        def first_views(self, indices: Sequence[int]) -> NDArray[np.float32]:
            n_read.append(len(indices))
            return super().first_views(indices)

    score = a_known_score(4)
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(9, 1, 4)).astype(np.float32))
    turns = torch.zeros(9, 1, dtype=torch.int64)
    source, logits = Counting(features, turns, turns[:, 0]), np.arange(14, dtype=np.float32).reshape(7, 2)
    unseen = Part(source, [8, 1, 2, 7, 4, 5, 0])
    whole = _answers(logits, unseen, source, score)
    monkeypatch.setattr(module, "_BLOCK", 3)
    in_blocks = _answers(logits, unseen, source, score)
    assert n_read == [7, 3, 3, 1]
    assert np.array_equal(in_blocks.logits, logits)
    np.testing.assert_allclose(in_blocks.scores, whole.scores, rtol=1e-6)
    np.testing.assert_allclose(whole.scores, score(features[unseen.positions, 0].numpy()), rtol=1e-6)


def test_the_curves_show_the_frames_left_out(folded: Project) -> None:
    assert run_pipe(folded.root, "train").returncode == 0
    curves = json.loads((folded.train_reports / "metrics.json").read_text(encoding="utf-8"))
    assert set(curves["val"]) == {"loss", "accuracy", "mse"}
    rows = _judged(folded)
    logits = read_out_of_fold(rows, ("red", "蓝色"), folded.out_of_fold_csv()).logits
    is_right = [("red", "蓝色")[answer] == row.label for answer, row in zip(logits.argmax(axis=1), rows, strict=True)]
    assert curves["kept"]["val"]["accuracy"] == pytest.approx(np.mean(is_right))


def test_a_run_that_is_stopped_after_its_last_epoch_keeps_the_numbers_of_the_frames_left_out(folded: Project) -> None:
    params = read_params(folded.params_yaml)

    def kept() -> dict[str, object]:
        numbers: dict[str, object] = json.loads((folded.train_reports / "metrics.json").read_text(encoding="utf-8"))
        return {"val": numbers["kept"]["val"], "epoch": numbers["kept"]["epoch"]}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "write_fold_heads", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            stage.train(params.train, params.model, params.image, folded)
    stage.train(params.train, params.model, params.image, folded)
    resumed = kept()
    stage.train(params.train, params.model, params.image, folded)
    assert resumed == kept()
    assert resumed["val"]


def test_a_rerun_gives_the_same_bytes(folded: Project) -> None:
    def outputs() -> list[bytes]:
        assert run_pipe(folded.root, "train").returncode == 0
        return [path.read_bytes() for path in (folded.fold_heads, folded.out_of_fold_csv(), folded.checkpoint)]

    assert outputs() == outputs()


def test_refit_none_ships_the_head_of_the_training_side(folded: Project) -> None:
    set_params(folded, train={"refit": "none"})
    assert run_pipe(folded.root, "train").returncode == 0
    checkpoint = read_checkpoint(folded.checkpoint)
    training = {row.source_sha256 for row in _judged(folded) if row.split == "train"}
    assert (checkpoint.estimate, checkpoint.refit) == ("folds", "none")
    assert set(checkpoint.learned_from) == training


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"train": {"estimate": "folds", "keep": "best_val"}}, "train.keep: best_val chooses by a side"),
        ({"train": {"estimate": "folds", "patience_epochs": 2}}, "train.patience_epochs watches a side"),
        ({"train": {"estimate": "folds", "watch_test": True}}, "train.watch_test watches a side"),
        ({"train": {"estimate": "folds"}, "model": {"freeze": "none"}}, "model.freeze is not all"),
        ({"train": {"estimate": "holdout", "refit": "all"}}, "train.refit: all needs folds"),
    ],
)
def test_what_does_not_go_with_folds_is_refused_in_one_line(
    folded: Project, changed: dict[str, dict[str, object]], words: str
) -> None:
    set_params(folded, **changed)
    finished = run_pipe(folded.root, "train")
    assert finished.returncode == 1
    assert words in finished.stderr
    assert finished.stderr.count("\n") == 1
    assert not folded.checkpoint.exists()


def test_where_folds_are_not_possible_the_test_side_judges_and_a_line_says_so(folded: Project) -> None:
    set_params(folded, train={"keep": "best_val", "epochs": 1})
    finished = run_pipe(folded.root, "train")
    assert finished.returncode == 0, finished.stderr
    assert "the test side judges the network, not folds: train.keep: best_val" in " ".join(finished.stdout.split())
    checkpoint = read_checkpoint(folded.checkpoint)
    assert (checkpoint.estimate, checkpoint.refit) == ("holdout", "none")
    assert read_fold_heads(folded.fold_heads) == []
    assert not folded.out_of_fold_csv().exists()
