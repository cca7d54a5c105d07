"""Arrays that are made once, checked before use, and made again where they are not as they were written."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.base.errors import DataError, DiskFullError
from pipeline.base.storage.cached_array import CachedArray, cache_key

ROWS = [[i] * 3 for i in range(5)]


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


def test_what_torch_writes_to_its_mapping_does_not_reach_the_file(cached: CachedArray) -> None:
    array = cached.read_or_make_for_torch(CountingFill())
    array[:] = 2
    assert cached.read_or_make(lambda _: pytest.fail("made again")).tolist() == ROWS


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
        lambda file: file.with_name("seconds").unlink(),
        lambda file: file.with_name("seconds").write_text("nan"),
        lambda file: file.with_name("seconds").write_bytes(b"\xff"),
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
