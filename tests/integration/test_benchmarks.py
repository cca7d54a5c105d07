"""Benchmarks still fit the code that they measure."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from export.graphs.preprocess_graph import join, preprocess_graph
from pipeline.network.preprocess import Preprocess
from tests.support.command import ROOT
from tests.support.tiny_core import small_core


def test_the_benchmark_of_inference_makes_a_bundle_that_the_runtime_opens(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("infer", ROOT / "benchmarks" / "infer.py")
    assert spec is not None
    assert spec.loader is not None
    infer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(infer)
    preprocess = Preprocess(8, "center", 0.9, (0.5,) * 3, (0.5,) * 3)
    model = join(preprocess_graph(preprocess, infer.OPSET), small_core(n_classes=infer.N_CLASSES))
    classifier = infer._classifier(preprocess, model, tmp_path)
    assert classifier.classify(np.zeros((10, 12, 3), np.uint8)).label.startswith("class ")
