"""The golden frames: of which every variant is sure, and of every class."""

from __future__ import annotations

import numpy as np

from export.parity.golden import golden_order
from pipeline.base import manifest
from pipeline.base.project import Project
from runtime.classifier import Classifier


def test_golden_frames_are_those_that_every_variant_is_sure_of(exported: Project) -> None:
    rows = [row for row in manifest.read_split(exported.split_csv) if row.split == "test"]
    classifiers = {"int8": Classifier(exported.contract_json, exported.onnx, "int8")}
    logits = np.tile(np.array([5.0, -5.0], np.float32), (len(rows), 1))
    logits[0] = [0.01, 0.0]
    ordered = golden_order(rows, {"int8": logits}, classifiers)
    assert ordered[-1] == rows[0]
    assert sorted(row.path for row in ordered) == sorted(row.path for row in rows)
    assert [row.label for row in ordered[:4]] == ["red", "蓝色", "red", "蓝色"]
