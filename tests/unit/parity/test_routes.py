"""The routes to the logits: a route that cannot answer gives no number."""

from __future__ import annotations

import numpy as np

from export.parity.routes import ask_bundle
from pipeline.base import manifest
from pipeline.base.project import Project
from runtime.classifier import Classifier


def test_a_bundle_that_cannot_answer_is_no_agreement(exported: Project) -> None:
    rows = [row for row in manifest.read_split(exported.split_csv) if row.split == "test"]
    classifier = Classifier(exported.contract_json, exported.onnx)
    route = ask_bundle(classifier, rows[:2], exported)
    assert route.problem is None
    assert np.isfinite(route.logits).all()
    (exported.root / rows[0].path).write_text("no picture")
    route = ask_bundle(classifier, rows[:2], exported)
    assert route.problem is not None
    assert np.isnan(route.logits).all()
