from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.against.other_resize import compare_resize
from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.project import Project
from tests.support.command import run_pipe


def test_pil_rounds_and_opencv_does_not_smooth(exported: Project) -> None:
    pil, opencv = (compare_resize(library, exported) for library in ("pil", "opencv"))
    assert pil.n_frames == opencv.n_frames == 16
    assert pil.max_level_difference < 1.5
    assert opencv.max_level_difference > 5
    assert 0 < pil.max_abs_logit_difference < opencv.max_abs_logit_difference
    assert pil.flips == 0


def test_a_network_that_ignores_its_input_loses_nothing(exported: Project) -> None:
    path = exported.onnx / "core.onnx"
    model = onnx.load(path)
    last = next(node for node in model.graph.node if "logits" in node.output)
    for tensor in model.graph.initializer:
        if tensor.name in last.input:
            tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), tensor.name))
    onnx.save(model, path)
    report = compare_resize("opencv", exported)
    assert (report.flips, report.top1, report.top1_with_library) == (0, 0.5, 0.5)
    assert report.max_abs_logit_difference == 0


def test_the_command_says_it_in_one_line_and_writes_nothing(exported: Project) -> None:
    before = exported.parity_json.read_bytes()
    finished = run_pipe(exported.root, "parity", "--against", "opencv")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("resized by opencv instead of the graph: ")
    assert finished.stdout.count("\n") == 1
    assert exported.parity_json.read_bytes() == before
    assert run_pipe(exported.root, "parity", "--against", "pillow").returncode == 2


def test_nothing_is_compared_where_no_frame_is_held_out(exported: Project) -> None:
    rows = [row for row in manifest.read_split(exported.split_csv) if row.split != "test"]
    manifest.write_split(rows, exported.split_csv)
    with pytest.raises(DataError):
        compare_resize("pil", exported)
