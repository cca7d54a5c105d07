"""Local features are found once a picture, and are those of a run without a cache."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.base import manifest
from pipeline.base.frames import read_thumbnail
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.split.near_duplicates import known_features as module
from pipeline.split.near_duplicates.features import FEATURES_SIDE, Features, find_features
from pipeline.split.near_duplicates.known_features import features_of
from tests.support.code_copy import copy_of_the_code
from tests.support.small_project import small_project


@pytest.fixture
def small(tmp_path: Path) -> Project:
    return small_project(tmp_path / "small")


def _rows(project: Project) -> list[Row]:
    return manifest.read_split(project.split_csv)[:6]


def _are_equal(first: Features, second: Features) -> bool:
    return (
        np.array_equal(first.points_xy, second.points_xy)
        and np.array_equal(first.descriptors, second.descriptors)
        and first.width == second.width
    )


def _found(project: Project, row: Row) -> Features:
    return find_features(read_thumbnail(project, row, FEATURES_SIDE))


def _n_searched(project: Project, rows: list[Row], monkeypatch: pytest.MonkeyPatch) -> int:
    searched = list[int]()

    def find(grey_hw: object) -> Features:
        searched.append(1)
        return find_features(grey_hw)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "find_features", find)
    assert all(
        _are_equal(known, _found(project, row)) for known, row in zip(features_of(rows, project), rows, strict=True)
    )
    return len(searched)


def test_only_new_pictures_are_searched(small: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _rows(small)
    assert len(_found(small, rows[0]).points_xy) > 3
    assert _n_searched(small, rows[:4], monkeypatch) == 4
    assert _n_searched(small, rows[::-1], monkeypatch) == 2
    assert _n_searched(small, rows, monkeypatch) == 0
    code = copy_of_the_code(tmp_path / "code", monkeypatch)
    (code / "split" / "near_duplicates" / "features.py").write_text("# a bug was fixed here")
    assert _n_searched(small, rows, monkeypatch) == 6
    monkeypatch.setattr(cv2, "__version__", "0.0.0")
    assert _n_searched(small, rows, monkeypatch) == 6


def test_a_picture_without_features_and_one_with_too_many_are_known_too(
    small: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = _rows(small)[0]
    cv2.imwrite(str(small.root / row.path), np.full((40, 56, 3), 90, np.uint8))
    assert len(_found(small, row).points_xy) == 0
    assert [_n_searched(small, [row], monkeypatch) for _ in range(2)] == [1, 0]
    shutil.rmtree(small.cache)
    many = Features(np.ones((200, 2), np.float32), np.ones((200, 128), np.uint8), 7)
    monkeypatch.setattr(module, "find_features", lambda _: many)
    for _ in range(2):
        (known,) = features_of([row], small)
        assert _are_equal(known, many)
