from __future__ import annotations

import csv

import cv2
import numpy as np

from export.parity.flips import flips_of, write_flips
from pipeline.base import manifest
from pipeline.base.project import Project

CLASSES = ("red", "蓝色")
SURE, UNSURE, OTHERWISE = [3.0, 0.0], [0.1, 0.0], [0.0, 1.0]


def test_a_flip_is_a_frame_with_two_answers_and_both_margins(exported: Project) -> None:
    rows = manifest.read_split(exported.split_csv)[:3]
    torch_logits, graph_logits = np.array([SURE, UNSURE, SURE]), np.array([SURE, OTHERWISE, OTHERWISE])
    flips = flips_of(rows, torch_logits, {"fp32": torch_logits, "int8": graph_logits}, CLASSES)
    assert [(flip.row, flip.variant, flip.torch, flip.graph) for flip in flips] == [
        (rows[1], "int8", "red", "蓝色"),
        (rows[2], "int8", "red", "蓝色"),
    ]
    assert [(round(flip.torch_margin, 3), flip.graph_margin) for flip in flips] == [(0.1, 1.0), (3.0, 1.0)]


def test_list_and_sheet_are_written_with_flips_and_without(exported: Project) -> None:
    rows = manifest.read_split(exported.split_csv)[:2]
    write_flips([], exported)
    assert exported.flips_csv.read_text(encoding="utf-8").count("\n") == 1  # the header
    nothing = cv2.imread(str(exported.flips_csv.with_suffix(".png")))
    write_flips(flips_of(rows, np.array([SURE, SURE]), {"int8": np.array([SURE, OTHERWISE])}, CLASSES), exported)
    with exported.flips_csv.open(encoding="utf-8", newline="") as file:
        assert [row["graph"] for row in csv.DictReader(file)] == ["蓝色"]
    one = cv2.imread(str(exported.flips_csv.with_suffix(".png")))
    assert one.shape[0] > nothing.shape[0]
    # A frame is red, which nothing on the other sheet is: OpenCV reads blue, green, red.
    assert np.any((one[..., 2] > 150) & (one[..., 0] < 120))
    assert not np.any((nothing[..., 2] > 150) & (nothing[..., 0] < 120))
