from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.frames import read_frame
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.network.preprocess import Preprocess
from pipeline.train.inputs import frame_cache as module
from pipeline.train.inputs.frame_cache import FrameCache, KeptBox, open_frame_cache
from tests.support.small_project import small_project

SQUASH = Preprocess(32, "squash", 1.0, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
CENTER = dataclasses.replace(SQUASH, crop="center", center_fraction=0.8)
UINT8, FLOAT32 = np.dtype("u1"), np.dtype("f4")


@pytest.fixture(scope="module")
def _drawn_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return small_project(tmp_path_factory.mktemp("frames") / "project")


@pytest.fixture
def small(tmp_path: Path, _drawn_project: Project) -> Project:
    return Project(shutil.copytree(_drawn_project.root, tmp_path / "project"))


def _rows(project: Project) -> list[Row]:
    return manifest.read_split(project.split_csv)


def _open(
    project: Project,
    rows: list[Row],
    preprocess: Preprocess = SQUASH,
    side: int = 32,
    dtype: np.dtype[np.generic] = UINT8,
) -> FrameCache:
    return open_frame_cache(project, rows, KeptBox(preprocess, side, dtype))


@pytest.mark.parametrize("preprocess", [SQUASH, CENTER])
@pytest.mark.parametrize("side", [32, 37])
def test_kept_levels_are_the_boxes_resized_exactly_or_rounded(
    small: Project, preprocess: Preprocess, side: int
) -> None:
    rows = _rows(small)[:6]
    exact = _open(small, rows, preprocess, side, FLOAT32).stacked(range(6))
    rounded = _open(small, rows, preprocess, side, UINT8).stacked(range(6))
    assert (exact.dtype, rounded.dtype) == (FLOAT32, UINT8)
    for i, row in enumerate(rows):
        frame_nhwc = torch.from_numpy(read_frame(small, row))[None]
        levels_hwc = preprocess.resized(frame_nhwc, side)[0].permute(1, 2, 0).numpy()
        assert np.array_equal(exact[i], levels_hwc)
        assert np.array_equal(rounded[i], np.rint(levels_hwc))


def _decoded(project: Project, rows: list[Row], monkeypatch: pytest.MonkeyPatch, **kept: Any) -> list[str]:
    """Decode the rows' frames, and return the paths of those that were not kept before."""
    paths = list[str]()

    def read(project: Project, row: Row) -> NDArray[np.uint8]:
        paths.append(row.path)
        return read_frame(project, row)

    monkeypatch.setattr(module, "read_frame", read)
    _open(project, rows, **kept).decode()
    return sorted(paths)


def test_only_new_frames_are_decoded_whatever_their_order_names_labels_and_sides(
    small: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = _rows(small)
    assert _decoded(small, rows[:5], monkeypatch) == sorted(row.path for row in rows[:5])
    assert _decoded(small, rows[4::-1], monkeypatch) == []
    assert _decoded(small, rows[6:2:-1], monkeypatch) == sorted(row.path for row in rows[5:7])
    elsewhere = [dataclasses.replace(row, split="unused", label="another") for row in rows[:5]]
    other_numbers = dataclasses.replace(SQUASH, mean=(0.0, 0.0, 0.0), center_fraction=0.5)
    assert _decoded(small, elsewhere, monkeypatch, preprocess=other_numbers) == []
    renamed = dataclasses.replace(rows[0], path="data/frames/renamed.jpg")
    (small.root / rows[0].path).rename(small.root / renamed.path)
    assert _decoded(small, [renamed], monkeypatch) == []


@pytest.mark.parametrize(
    "kept",
    [
        {"preprocess": CENTER},
        {"preprocess": dataclasses.replace(CENTER, center_fraction=0.5)},
        {"side": 37},
        {"dtype": FLOAT32},
    ],
)
def test_another_box_is_decoded_again(small: Project, monkeypatch: pytest.MonkeyPatch, kept: dict[str, Any]) -> None:
    rows = _rows(small)[:2]
    _decoded(small, rows, monkeypatch)
    assert _decoded(small, rows, monkeypatch, **kept) == [row.path for row in rows]
    assert _decoded(small, rows, monkeypatch, **kept) == []


def test_a_frame_whose_bytes_change_is_decoded_again(small: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _rows(small)[:3]
    _decoded(small, rows, monkeypatch)
    (small.root / rows[1].path).write_bytes((small.root / _rows(small)[9].path).read_bytes())
    assert _decoded(small, rows, monkeypatch) == [rows[1].path]


def test_the_pixels_are_the_same_in_whatever_order_the_cache_was_filled(small: Project) -> None:
    rows = _rows(small)
    for part in (rows[7:9], rows[::-3], rows[:20]):
        _open(small, part).decode()
    in_parts = _open(small, rows).stacked(range(len(rows)))
    shutil.rmtree(small.cache)
    assert np.array_equal(_open(small, rows).stacked(range(len(rows))), in_parts)


def test_a_missing_frame_is_named(small: Project) -> None:
    rows = _rows(small)
    (small.root / rows[3].path).unlink()
    with pytest.raises(DataError, match=rf"^{rows[3].path}: No such file.*; expected a picture that can be read$"):
        _open(small, rows)


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_a_broken_frame_is_named_and_nothing_is_kept(small: Project, content: bytes) -> None:
    rows = _rows(small)
    (small.root / rows[3].path).write_bytes(content)
    with pytest.raises(DataError, match=Path(rows[3].path).name):
        _open(small, rows).decode()
    assert [path.name for path in (small.cache / "frames").rglob("*") if path.is_file()] == ["lock"]
