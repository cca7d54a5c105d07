"""Frames in batches of equal size: every frame once, in order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.graphs import reference
from export.graphs.reference import frames_of_equal_size
from pipeline.base import manifest
from pipeline.base.frames import read_frame
from tests.support.small_project import small_project


def test_batches_of_seven_two_and_one_cover_every_frame_in_order(tmp_path: Path) -> None:
    project = small_project(tmp_path / "project")
    rows = manifest.read_split(project.split_csv)[:18]
    batches = list(frames_of_equal_size(rows, project))
    assert [len(batch) for batch in batches] == [7, 2, 1, 7, 1]
    assert np.array_equal(np.concatenate(batches), np.stack([read_frame(project, each) for each in rows]))


@pytest.mark.parametrize(("n_pixels", "sizes"), [(7, [7, 2, 1, 7, 1]), (3, [3, 2, 1] * 3), (0, [1] * 18)])
def test_a_batch_of_large_frames_is_smaller(
    n_pixels: int, sizes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = small_project(tmp_path / "project")
    monkeypatch.setattr(reference, "PIXELS_AT_ONCE", n_pixels * 40 * 56)
    batches = frames_of_equal_size(manifest.read_split(project.split_csv)[:18], project)
    assert [len(batch) for batch in batches] == sizes
