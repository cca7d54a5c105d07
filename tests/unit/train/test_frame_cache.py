from __future__ import annotations

import dataclasses
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.base import manifest
from pipeline.base.errors import DataError, DiskFullError
from pipeline.base.frames import read_frame
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.network.preprocess import Preprocess
from pipeline.train import frame_cache as module
from pipeline.train.frame_cache import CachedArray, cache_key, open_frame_cache
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


# The file of an array, for frames and for features


class CountingFill:
    """Fills row i of an array with i, and counts its calls."""

    def __init__(self, *, seconds: float = 0.0, fails_after: int | None = None) -> None:
        self.calls = 0
        self.seconds = seconds
        self.fails_after = fails_after

    def __call__(self, array: NDArray[Any]) -> None:
        self.calls += 1
        for i in range(len(array)):
            if i == self.fails_after:
                raise DataError("frame 3: broken")
            time.sleep(self.seconds)
            array[i] = i


ROWS = [[i] * 3 for i in range(5)]


@pytest.fixture
def cached(tmp_path: Path) -> CachedArray:
    return CachedArray(tmp_path / "cache" / "frames" / "key" / "frames.npy", (5, 3), np.dtype("u1"))


def test_an_array_is_made_once_and_then_mapped_read_only(cached: CachedArray) -> None:
    fill = CountingFill()
    for _ in range(3):
        array = cached.read_or_make(fill)
        assert array.tolist() == ROWS
    assert fill.calls == 1
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-4])


def _change_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-4] ^= 1
    file.write_bytes(data)


def _put_another(file: Path) -> None:
    np.save(file, np.ones((2, 2)))


@pytest.mark.parametrize(
    "spoil",
    [
        _cut,
        _change_a_byte,
        _put_another,
        Path.unlink,
        lambda file: file.with_name("sha256").unlink(),
        lambda file: file.with_name("sha256").write_bytes(b"\xff"),
    ],
)
def test_an_array_that_is_not_as_it_was_written_is_made_again(cached: CachedArray, spoil: Any) -> None:
    fill = CountingFill()
    cached.read_or_make(fill)
    spoil(cached.file)
    assert cached.read_or_make(fill).tolist() == ROWS
    assert fill.calls == 2


def test_an_error_while_making_an_array_leaves_nothing(cached: CachedArray) -> None:
    with pytest.raises(DataError, match="frame 3: broken"):
        cached.read_or_make(CountingFill(fails_after=3))
    assert [path.name for path in cached.file.parents[1].iterdir() if path.suffix != ".lock"] == []


def test_runs_that_want_the_same_array_at_once_wait_for_the_first(cached: CachedArray) -> None:
    fill = CountingFill(seconds=0.05)
    arrays: list[list[list[int]]] = []
    threads = [threading.Thread(target=lambda: arrays.append(cached.read_or_make(fill).tolist())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fill.calls == 1
    assert arrays == [ROWS] * 3


def test_an_array_that_is_being_read_stays_readable_while_another_run_makes_it_again(cached: CachedArray) -> None:
    array = cached.read_or_make(CountingFill())
    cached.file.with_name("sha256").unlink()
    cached.read_or_make(lambda empty: empty.fill(9))
    assert array.tolist() == ROWS


def test_a_full_disk_is_one_clear_line(cached: CachedArray, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(DiskFullError, match=r"frames.npy: the disk is full: found [\d,]+ bytes free; expected [\d,]+"):
        cached.read_or_make(CountingFill())
    assert not cached.file.exists()


def test_an_array_may_have_no_rows(tmp_path: Path) -> None:
    empty = CachedArray(tmp_path / "key" / "frames.npy", (0, 4, 4, 3), np.dtype("u1"))
    assert empty.read_or_make(CountingFill()).shape == (0, 4, 4, 3)


def test_other_parts_or_another_order_give_another_key() -> None:
    assert cache_key("a", "bc") == cache_key("a", "bc")
    assert len({cache_key("a", "bc"), cache_key("ab", "c"), cache_key("bc", "a"), cache_key("a", "bc", None)}) == 4
