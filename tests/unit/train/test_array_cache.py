from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.base.errors import DataError, PipeError
from pipeline.train import frame_cache
from pipeline.train.frame_cache import CachedArray, key_of


class Counting:
    """Fills an array with what it was told, and counts how often."""

    def __init__(self, *, seconds: float = 0.0, fails_after: int | None = None) -> None:
        self.calls = 0
        self.seconds = seconds
        self.fails_after = fails_after

    def __call__(self, array: NDArray[Any]) -> None:
        self.calls += 1
        for number in range(len(array)):
            if number == self.fails_after:
                raise DataError("frame 3: broken")
            time.sleep(self.seconds)
            array[number] = number


@pytest.fixture
def cached(tmp_path: Path) -> CachedArray:
    return CachedArray(tmp_path / "cache" / "frames" / "key" / "frames.npy", (5, 3), np.dtype("u1"))


def test_an_array_is_made_once_and_then_mapped_read_only(cached: CachedArray) -> None:
    fill = Counting()
    for _ in range(3):
        array = cached.read_or_make(fill)
        assert array.tolist() == [[number] * 3 for number in range(5)]
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
def test_what_is_not_as_it_was_written_is_made_again(cached: CachedArray, spoil: Any) -> None:
    fill = Counting()
    cached.read_or_make(fill)
    spoil(cached.file)
    assert cached.read_or_make(fill).tolist() == [[number] * 3 for number in range(5)]
    assert fill.calls == 2


def test_an_error_while_making_leaves_nothing_and_the_old_one_as_it_was(cached: CachedArray) -> None:
    with pytest.raises(DataError, match="frame 3: broken"):
        cached.read_or_make(Counting(fails_after=3))
    assert [path.name for path in cached.file.parents[1].iterdir() if path.suffix != ".lock"] == []


def test_of_two_runs_at_once_the_second_waits_and_reads(cached: CachedArray) -> None:
    fill = Counting(seconds=0.05)
    found: list[list[list[int]]] = []
    threads = [threading.Thread(target=lambda: found.append(cached.read_or_make(fill).tolist())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fill.calls == 1
    assert found == [[[number] * 3 for number in range(5)]] * 3


def test_one_that_is_being_read_stays_readable_while_another_run_makes_it_again(cached: CachedArray) -> None:
    array = cached.read_or_make(Counting())
    cached.file.with_name("sha256").unlink()
    cached.read_or_make(lambda empty: empty.fill(9))
    assert array.tolist() == [[number] * 3 for number in range(5)]


def test_a_full_disk_is_one_clear_line(cached: CachedArray, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(frame_cache.os, "posix_fallocate", no_room)
    with pytest.raises(PipeError, match=r"frames.npy: No space left on device; make room for 0 MB, then run again"):
        cached.read_or_make(Counting())
    assert not cached.file.exists()


def test_an_array_of_no_rows_is_fine(tmp_path: Path) -> None:
    nothing = CachedArray(tmp_path / "key" / "frames.npy", (0, 4, 4, 3), np.dtype("u1"))
    assert nothing.read_or_make(Counting()).shape == (0, 4, 4, 3)


def test_a_key_tells_parts_apart() -> None:
    assert key_of("a", "bc") == key_of("a", "bc")
    assert len({key_of("a", "bc"), key_of("ab", "c"), key_of("bc", "a"), key_of("a", "bc", None)}) == 4
