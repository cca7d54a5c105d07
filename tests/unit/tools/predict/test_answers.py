"""Answers as lines, JSON and CSV."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from pipeline.base.errors import DataError
from pipeline.extract.params import ExtractParams
from pipeline.tools.predict.answers import (
    Answer,
    Classification,
    FrameAnswer,
    refuse_failures,
    to_json,
    to_lines,
    write_csv,
)
from pipeline.tools.predict.predict import predict
from runtime.classifier import Classifier
from tests.support.tiny_bundle import CLASSES, write_colour_clip

RED = Classification("red", 0.75, {"red": 0.75, "green": 0.25})
UNKNOWN = Classification(None, 0.5, {"red": 0.5, "green": 0.5})


def test_several_files_end_in_a_line_that_counts_them_by_label() -> None:
    clip = Answer("clip.mp4", RED, (FrameAnswer(0.0, RED), FrameAnswer(1.0, UNKNOWN)), warnings=("cut short",))
    answers = [Answer("a.png", RED), clip, Answer("b.png", UNKNOWN), Answer("c.png", None, error="c.png: broken")]
    assert to_lines(answers) == [
        " 75.0%  red  a.png",
        " 75.0%  red  clip.mp4  (2 frames: red 1, (none of the classes) 1); cut short",
        "                 0.0 s  red",
        "                 1.0 s  (none of the classes)",
        " 50.0%  (none of the classes)  b.png",
        "     -  c.png: broken",
        "4 files: red 2, (none of the classes) 1, not classified 1",
    ]
    assert to_lines(answers[:1]) == [" 75.0%  red  a.png"]


def test_files_without_an_answer_end_in_an_error_that_counts_them() -> None:
    errors = [Answer(f"{name}.png", None, error=f"{name}.png: broken") for name in "abc"]
    with pytest.raises(DataError, match=r"^a\.png: broken; 2 more could not be classified$"):
        refuse_failures([Answer("d.png", RED), *errors])
    with pytest.raises(DataError, match=r"^a\.png: broken$"):
        refuse_failures(errors[:1])


def test_json_and_csv_hold_every_frame(
    colour_classifier: Classifier, extract_params: ExtractParams, tmp_path: Path
) -> None:
    write_colour_clip(tmp_path / "clip\r.mp4", [0, 1])
    (tmp_path / "bad.jpg").touch()
    answers = predict([tmp_path], colour_classifier, extract_params)
    bad, clip = json.loads(json.dumps(to_json(answers), allow_nan=False))
    assert bad["verdict"] is None
    assert bad["error"].startswith(bad["path"])
    assert [frame["verdict"]["label"] for frame in clip["frames"]] == ["red", "green"]
    write_csv(answers, tmp_path / "answers.csv")
    with (tmp_path / "answers.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "path",
        "time_seconds",
        "n_frames",
        "label",
        "probability",
        *(f"p_{c}" for c in CLASSES),
        "error",
    ]
    assert rows[1]["path"] == str(tmp_path / "clip\r.mp4")
    assert [(row["time_seconds"], row["n_frames"], row["label"]) for row in rows] == [
        ("", "", ""),
        ("", "2", clip["verdict"]["label"]),
        ("0.000000", "", "red"),
        ("1.000000", "", "green"),
    ]
