from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from export.export.reference_frames import calibration_rows, reference_frames
from export.graphs.reference import torch_of
from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.frames import read_frame
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.network.checkpoint import read_checkpoint


def row(label: str, clip: str, time_seconds: float, **values: object) -> Row:
    path = f"data/frames/{label}/{clip}/{time_seconds:06.1f}.jpg"
    settings = {"split": "train", "time_seconds": time_seconds, **values}
    return Row(path, label, f"{label}/{clip}", "", f"{label}/{clip}", **settings)  # type: ignore[arg-type]


MANY = [row("red", clip, second) for clip in ("long", "short") for second in range(90 if clip == "long" else 10)]
FEW = [row("蓝色", "only", second) for second in range(5)]


def test_calibration_frames_are_balanced_by_class_and_by_clip() -> None:
    chosen = calibration_rows([*MANY, *FEW], 8)
    assert Counter(each.label for each in chosen) == {"red": 4, "蓝色": 4}
    assert Counter(each.group for each in chosen if each.label == "red") == {"red/long": 2, "red/short": 2}


def test_they_are_spread_over_a_clip() -> None:
    chosen = calibration_rows([each for each in MANY if each.group == "red/long"], 8)
    times = sorted(each.time_seconds or 0.0 for each in chosen)
    assert all(5 < later - earlier < 20 for earlier, later in itertools.pairwise(times))


def test_a_class_that_runs_out_leaves_its_turns_to_others() -> None:
    chosen = calibration_rows([*MANY, *FEW], 30)
    assert Counter(each.label for each in chosen) == {"red": 25, "蓝色": 5}
    assert len(set(chosen)) == 30
    assert len(calibration_rows([*MANY, *FEW], 1000)) == 105


def test_only_kept_originals_of_the_training_side_calibrate() -> None:
    wanted = row("red", "a", 1)
    others = [
        row("red", "b", 1, split="val"),
        row("red", "c", 1, split="test"),
        row("red", "d", 1, split="unused"),
        row("red", "e", 1, kept=False),
        row("red", "f", 1, parent="data/frames/x.jpg"),
    ]
    assert calibration_rows([*others, wanted], 100) == [wanted]
    with pytest.raises(DataError, match="no kept training frame"):
        calibration_rows(others[:4], 100)


def test_the_graphs_input_and_torchs_answers_belong_to_the_same_frames(exported: Project, tmp_path: Path) -> None:
    rows = [each for each in manifest.read_split(exported.split_csv) if each.split == "val"]
    checkpoint = read_checkpoint(exported.checkpoint)
    frames = reference_frames(rows, checkpoint, exported, tmp_path / "inputs.npy")
    ask = torch_of(checkpoint)
    for logits, each in zip(frames.torch.logits, rows, strict=True):
        assert np.allclose(logits, ask(read_frame(exported, each)[None]).logits[0], atol=1e-5)
    assert frames.inputs_nchw.shape == (8, 3, 32, 32)
    assert [checkpoint.classes[index] for index in frames.truth] == [each.label for each in rows]
    assert frames.compare(frames.torch, has_score=False).difference == 0
