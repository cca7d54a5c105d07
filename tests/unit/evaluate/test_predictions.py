from __future__ import annotations

import csv
import tracemalloc
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest

from pipeline.base.errors import DataError
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.evaluate.dvc_tables import plot_tables, write_tables
from pipeline.evaluate.predictions import Predictions, gather, judge_out_of_fold, write_predictions
from pipeline.network.checkpoint import Checkpoint
from pipeline.network.embeddings import Embeddings
from runtime.answers import probabilities_of
from tests.support.judged_frames import judged_frames


def test_a_name_with_a_carriage_return_comes_back_as_it_was(project: Project) -> None:
    logits, classes = np.array([[2, 0], [0, 1]], dtype=np.float32), ["a", "b"]
    rows = [Row(f"clip\r{i}.jpg", classes[i], "", "", f"clip\r{i}", width=1, height=1) for i in range(2)]
    predictions = Predictions(
        rows, np.array([0, 1]), logits, logits.max(axis=1), probabilities_of(logits, None), Embeddings(list(logits))
    )
    write_predictions(predictions, classes, project)
    project.plots.mkdir(parents=True)
    write_tables(plot_tables(predictions, classes), project.plots)
    with project.predictions_csv.open(encoding="utf-8", newline="") as file:
        assert [line["path"] for line in csv.DictReader(file)] == [row.path for row in rows]
    with (project.plots / "verdicts.csv").open(encoding="utf-8", newline="") as file:
        assert [line["group"] for line in csv.DictReader(file)] == [row.group for row in rows]


def test_predictions_of_several_parts_come_in_the_order_of_their_paths_with_their_own_answers(project: Project) -> None:
    every = judged_frames(project, (0, 1, 0, 1), ((3, 0), (0, 2), (1, 0), (0, 4)), ("a", "b"))
    late, early = (every.where(np.array(mask)) for mask in ([False, False, True, True], [True, True, False, False]))
    gathered = gather([late, early], [every.rows[3], every.rows[0]])
    assert gathered.rows == [every.rows[0], every.rows[3]]
    assert gathered.logits.tolist() == [[3, 0], [0, 4]]
    assert gathered.predicted.tolist() == [0, 1]


def test_a_mask_that_selects_every_frame_copies_nothing(project: Project) -> None:
    every = judged_frames(project, (0, 1), ((3, 0), (0, 2)), ("a", "b"))
    assert every.where(np.array([True, True])) is every


def test_selecting_and_gathering_frames_copies_no_features(project: Project) -> None:
    every = judged_frames(project, [0] * 20, [(3, 0)] * 20, ("a", "b"))
    features = np.random.default_rng(0).normal(size=(20, 50_000)).astype(np.float32)
    every = replace(every, embeddings=Embeddings(list(features)))
    tracemalloc.start()
    kept = every.where(np.arange(20) % 2 == 0)
    gathered = gather([kept, every.where(np.arange(20) % 2 == 1)], every.rows[1:])
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < features.nbytes / 10
    assert np.array_equal(gathered.embeddings.array(), features[1:])
    assert np.array_equal(np.concatenate(list(kept.embeddings.blocks())), features[::2])


def test_a_split_without_folds_is_named_where_folds_judge_the_checkpoint(project: Project) -> None:
    checkpoint = mock.create_autospec(Checkpoint, instance=True, classes=("a", "b"))
    with pytest.raises(DataError, match=r"split\.csv: no frame has a fold, .*; run `pipe train` again$"):
        judge_out_of_fold([], checkpoint, project, batch_size=8)
