"""Benchmarks still fit the code that they measure."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from export.graphs.preprocess_graph import join, preprocess_graph
from pipeline.base import manifest
from pipeline.base.files import read_json
from pipeline.base.frames import read_frame
from pipeline.base.project import Project
from pipeline.network.preprocess import Preprocess
from tests.support.command import ROOT
from tests.support.tiny_core import small_core


def _benchmark(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_of_inference_makes_a_bundle_that_the_runtime_opens(tmp_path: Path) -> None:
    infer = _benchmark("infer")
    preprocess = Preprocess(8, "center", 0.9, (0.5,) * 3, (0.5,) * 3)
    model = join(preprocess_graph(preprocess, infer.OPSET), small_core(n_classes=infer.N_CLASSES))
    classifier = infer._classifier(preprocess, model, tmp_path)
    assert classifier.classify(np.zeros((10, 12, 3), np.uint8)).label.startswith("class ")


def test_the_benchmark_of_scale_writes_data_that_the_stages_read(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale = _benchmark("scale")
    monkeypatch.setattr(scale, "FRAMES_PER_CLIP", 4)
    monkeypatch.setattr(scale, "CLASSES", 2)
    monkeypatch.chdir(project.root)
    with joblib.parallel_config("sequential"):
        scale.generate(project, 80)
        for stage in ("manifest", "groups", "split", "dataset"):
            assert scale.run_stage(stage, project)["seconds"] > 0
    rows = manifest.read_split(project.split_csv)
    assert len(rows) == 80 + 8
    assert len({read_frame(project, row).tobytes() for row in rows}) == len(rows)
    assert {row.fold for row in rows} == set(range(5))
    assert (project.root / "copy.csv").read_bytes() == project.frames_csv.read_bytes()
    assert read_json(project.extract_json)["n_clips"] == 20


def test_the_benchmark_of_engines_fits_a_start_and_a_cost_for_each_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = _benchmark("engines")
    costs = {"": (1.0, 0.5), "loky": (4.0, 0.5), "ray": (10.0, 0.75), "slow": (9.0, 1.25)}
    monkeypatch.setattr(engines, "PACKAGES", dict.fromkeys(costs, "joblib"))
    monkeypatch.setattr(engines, "make_demo_clips", Path.mkdir)
    monkeypatch.setattr(engines, "_project", lambda _root, _clips, n: n)
    monkeypatch.setattr(engines, "_extract", lambda n, name: costs[name][0] + costs[name][1] * n)
    result = json.loads(json.dumps(engines.measure((15, 60, 240), 1)))
    assert result["lines"]["threads"] == {"start_seconds": 1.0, "clip_seconds": 0.5}
    # Two machines gain 0.25 s, 0.125 s and nothing with each clip, after a start that is 3, 9 and 8 s later.
    assert result["pays_from_clips"] == {"loky": 12, "ray": 72, "slow": None}
