from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.frames import read_frame
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.network.preprocess import Preprocess
from pipeline.train.inputs import frame_cache as module
from pipeline.train.inputs.frame_cache import open_frame_cache
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


@pytest.mark.parametrize("preprocess", [SQUASH, CENTER])
@pytest.mark.parametrize("side", [32, 37])
def test_kept_levels_are_the_boxes_resized_exactly_or_rounded(
    small: Project, preprocess: Preprocess, side: int
) -> None:
    rows = _rows(small)[:6]
    exact = open_frame_cache(small, rows, preprocess, side, FLOAT32).pixels_nhwc
    rounded = open_frame_cache(small, rows, preprocess, side, UINT8).pixels_nhwc
    for i, row in enumerate(rows):
        frame_nhwc = torch.from_numpy(read_frame(small, row))[None]
        levels_hwc = preprocess.resized(frame_nhwc, side)[0].permute(1, 2, 0).numpy()
        assert np.array_equal(exact[i], levels_hwc)
        assert np.array_equal(rounded[i], np.rint(levels_hwc))


def test_frames_are_decoded_once(small: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _rows(small)
    open_frame_cache(small, rows, SQUASH, 32, UINT8).decode()
    monkeypatch.setattr(module, "read_frame", lambda *_: pytest.fail("decoded again"))
    open_frame_cache(small, rows, SQUASH, 32, UINT8).decode()
    with pytest.raises(pytest.fail.Exception, match="decoded again"):  # so decoding is noticed
        open_frame_cache(small, rows, SQUASH, 33, UINT8).decode()


def test_the_key_depends_on_names_bytes_and_box_and_on_nothing_else(small: Project) -> None:
    rows = _rows(small)
    key = open_frame_cache(small, rows, SQUASH, 32, UINT8).key
    other_split = [dataclasses.replace(row, split="unused", label="another") for row in rows]
    other_numbers = dataclasses.replace(SQUASH, mean=(0.0, 0.0, 0.0), center_fraction=0.5)
    assert open_frame_cache(small, other_split, other_numbers, 32, UINT8).key == key
    other_keys = {
        open_frame_cache(small, rows[1:], SQUASH, 32, UINT8).key,
        open_frame_cache(small, rows[::-1], SQUASH, 32, UINT8).key,
        open_frame_cache(small, rows, CENTER, 32, UINT8).key,
        open_frame_cache(small, rows, dataclasses.replace(CENTER, center_fraction=0.5), 32, UINT8).key,
        open_frame_cache(small, rows, SQUASH, 37, UINT8).key,
        open_frame_cache(small, rows, SQUASH, 32, FLOAT32).key,
    }
    renamed = dataclasses.replace(rows[0], path=rows[0].path.replace("000000", "000009"))
    (small.root / renamed.path).write_bytes((small.root / rows[0].path).read_bytes())
    other_keys.add(open_frame_cache(small, [renamed, *rows[1:]], SQUASH, 32, UINT8).key)
    first, second = (small.root / row.path for row in rows[:2])
    first.write_bytes(second.read_bytes())
    other_keys.add(open_frame_cache(small, rows, SQUASH, 32, UINT8).key)
    assert len(other_keys | {key}) == 9


def test_a_missing_frame_is_named(small: Project) -> None:
    rows = _rows(small)
    (small.root / rows[3].path).unlink()
    with pytest.raises(DataError, match=rf"^{rows[3].path}: No such file.*; expected a picture that can be read$"):
        open_frame_cache(small, rows, SQUASH, 32, UINT8)


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_a_broken_frame_is_named_and_nothing_is_kept(small: Project, content: bytes) -> None:
    rows = _rows(small)
    (small.root / rows[3].path).write_bytes(content)
    cache = open_frame_cache(small, rows, SQUASH, 32, UINT8)
    with pytest.raises(DataError, match=Path(rows[3].path).name):
        cache.decode()
    assert [path.suffix for path in (small.cache / "frames").iterdir()] == [".lock"]
