from __future__ import annotations

import math
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.base.errors import DataError
from pipeline.base.manifest import Row
from pipeline.network.calibration import Calibration, UnknownThresholds
from pipeline.network.out_of_fold import (
    FoldHead,
    read_fold_heads,
    read_out_of_fold,
    write_fold_heads,
    write_out_of_fold,
)
from pipeline.network.torch_files import write_plain
from runtime.answers import Answers
from tests.support.checkpoints import a_known_score

CLASSES = ("=sum", "片")
ROWS = [
    Row(
        f"data/frames/{number}.jpg",
        CLASSES[number % 2],
        f"{number}",
        "",
        f"clip {number}",
        fold=number % 3,
        kept=number > 0,
    )
    for number in range(6)
]
ANSWERS = Answers(*(np.random.default_rng(0).normal(0, 1e3, shape).astype(np.float32) for shape in ((6, 2), 6)))


def test_every_bit_of_a_logit_and_a_score_survives_the_table(tmp_path: Path) -> None:
    path = tmp_path / "out_of_fold.csv"
    write_out_of_fold(ROWS, ANSWERS, CLASSES, path)
    for step in (1, -2):
        found, expected = read_out_of_fold(ROWS[::step], CLASSES, path), ANSWERS[::step]
        assert np.array_equal(found.logits, expected.logits)
        assert np.array_equal(found.scores, expected.scores)


@pytest.mark.parametrize(
    ("rows", "classes", "message"),
    [
        ([replace(ROWS[0], fold=2)], CLASSES, "no line of data/frames/0.jpg in fold 2"),
        ([replace(ROWS[0], path="data/frames/9.jpg")], CLASSES, "no line of data/frames/9.jpg in fold 0"),
        (ROWS, CLASSES[::-1], "found the columns path,group,fold,label,kept,logit_=sum,logit_片,score; expected"),
    ],
)
def test_a_frame_or_class_that_the_table_lacks_is_named(
    rows: list[Row], classes: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "out_of_fold.csv"
    write_out_of_fold(ROWS, ANSWERS, CLASSES, path)
    with pytest.raises(DataError, match=message):
        read_out_of_fold(rows, classes, path)


def test_memory_holds_the_numbers_of_a_table_and_not_its_texts(tmp_path: Path) -> None:
    path, classes = tmp_path / "out_of_fold.csv", tuple(f"class {number}" for number in range(30))
    rows = [Row(f"data/frames/{number:05}.jpg", classes[0], "", "", "clip", fold=0) for number in range(5000)]
    logits = np.random.default_rng(0).normal(size=(len(rows), len(classes))).astype(np.float32)
    write_out_of_fold(rows, Answers.of_logits(logits), classes, path)
    n_characters = path.stat().st_size
    tracemalloc.start()
    assert np.array_equal(read_out_of_fold(rows, classes, path).logits, logits)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert logits.nbytes < most_bytes < 1.5 * n_characters  # as texts they took 5 times as much as the file


def test_a_line_with_too_few_numbers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out_of_fold.csv"
    write_out_of_fold(ROWS, ANSWERS, CLASSES, path)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines[:-1], lines[-1].rsplit(",", 2)[0]]) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="a line does not fit its columns"):
        read_out_of_fold(ROWS, CLASSES, path)


@pytest.mark.parametrize("spoilt", ["nan", "inf", "a word", ""])
def test_a_logit_that_is_no_number_is_refused(spoilt: str, tmp_path: Path) -> None:
    path = tmp_path / "out_of_fold.csv"
    write_out_of_fold(ROWS, ANSWERS, CLASSES, path)
    text = path.read_text(encoding="utf-8").splitlines()
    text[1] = text[1].rsplit(",", 1)[0] + f",{spoilt}"
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="run `pipe train` again"):
        read_out_of_fold(ROWS, CLASSES, path)


def test_a_missing_table_names_the_stage_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing; run `pipe train`"):
        read_out_of_fold(ROWS, CLASSES, tmp_path / "reports" / "train" / "out_of_fold.csv")


def test_heads_and_their_calibrations_survive_the_file(tmp_path: Path) -> None:
    heads = [
        FoldHead({"classify.0.weight": torch.full((2, 3), float(fold))}, calibration, a_known_score(3, fold))
        for fold, calibration in enumerate(
            [
                Calibration(1.5, None, UnknownThresholds(0.25, 0.5, 0.05), None),
                Calibration(None, "a reason", None, "another"),
            ]
        )
    ]
    path = tmp_path / "folds.pt"
    write_fold_heads(heads, path)
    found = read_fold_heads(path)
    for fold, head in enumerate(found):
        assert head.known_score is not None
        assert np.array_equal(head.known_score.middle, a_known_score(3, fold).middle)
    assert [head.calibration for head in found] == [head.calibration for head in heads]
    assert [head.state_dict["classify.0.weight"].mean() for head in found] == [0.0, 1.0]
    assert "(2, 3)" in repr(found[0])  # shapes, and no weights
    write_fold_heads([], path)
    assert read_fold_heads(path) == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"format_version": 1, "heads": []}, "found the format 1 of fold heads; expected 2"),
        ([], "found the format None"),
        ({"format_version": 2}, "does not fit"),
        ({"format_version": 2, "heads": [{"state_dict": {"a": 1}, "calibration": {}}]}, "found no state dict"),
        ({"format_version": 2, "heads": [{"state_dict": {}, "calibration": {"temperature": math.nan}}]}, "not fit"),
    ],
)
def test_a_file_that_holds_no_fold_heads_is_refused(value: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "folds.pt"
    write_plain(value, path)
    with pytest.raises(DataError, match=message):
        read_fold_heads(path)
