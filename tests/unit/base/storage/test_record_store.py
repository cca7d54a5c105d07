"""Records that are made once, checked before use, and made again where they are not as they were written."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.base.errors import DataError, DiskFullError, PipeError
from pipeline.base.storage import record_store as module
from pipeline.base.storage.record_store import RecordStore
from pipeline.base.storage.shard import open_shard
from tests.support.command import ROOT

SHAPE = (2, 3)


def names(*numbers: int) -> list[str]:
    return [f"{number:064x}" for number in numbers]


class Filling:
    """Fills a record with the number that its name is, and lists what it was asked for."""

    def __init__(self, wanted: Sequence[str], *, fails_at: int | None = None) -> None:
        self.wanted = wanted
        self.fails_at = fails_at
        self.asked: list[int] = []

    def __call__(self, positions: Sequence[int], empty: Sequence[NDArray[Any]]) -> None:
        for position, array in zip(positions, empty, strict=True):
            number = int(self.wanted[position], 16)
            if number == self.fails_at:
                raise DataError(f"frame {number}: broken")
            self.asked.append(number)
            array[...] = number


def read(store: RecordStore, *numbers: int, shape: tuple[int, ...] = SHAPE) -> list[int]:
    """Read records, and return the numbers that were made for it."""
    filling = Filling(names(*numbers))
    records = store.read_or_make(filling.wanted, [shape] * len(numbers), filling)
    assert [record.tolist() for record in records] == [np.full(shape, float(number)).tolist() for number in numbers]
    return filling.asked


def shards(store: RecordStore) -> list[Path]:
    return sorted(store.folder.glob("*.records"))


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore(tmp_path / "frames" / "key", np.dtype("f4"))


def test_only_new_records_are_made_in_whatever_order_they_are_asked_for(store: RecordStore) -> None:
    assert read(store, 3, 1, 2) == [3, 1, 2]
    size = shards(store)[0].stat().st_size
    assert read(store, 1, 2, 3) == []
    assert read(store, 5, 3, 4, 1) == [5, 4]
    assert read(store, 1, 5) == []
    assert sum(path.stat().st_size for path in shards(store)) < 2 * size


def test_equal_names_are_one_record(store: RecordStore) -> None:
    assert read(store, 1, 2, 1, 1) == [1, 2]


def test_records_are_read_only_and_may_have_several_shapes(store: RecordStore) -> None:
    shapes: list[tuple[int, ...]] = [(1, 5), (4, 2, 3), ()]
    filling = Filling(names(7, 8, 9))
    records = store.read_or_make(filling.wanted, shapes, filling)
    assert [record.shape for record in records] == shapes
    with pytest.raises(ValueError, match="read-only"):
        records[0][:] = 1


def test_there_may_be_no_records(store: RecordStore) -> None:
    assert store.read_or_make([], [], Filling([])) == []


def test_a_record_of_another_size_is_made_again(store: RecordStore) -> None:
    read(store, 1, 2)
    assert read(store, 1, 2, shape=(7,)) == [1, 2]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def _change_head(path: Path) -> None:
    path.write_bytes(b"x" + path.read_bytes()[1:])


def _make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [_cut, _change_head, Path.unlink, lambda path: path.write_bytes(b""), _make_folder])
def test_a_shard_that_is_not_as_it_was_written_is_made_again(store: RecordStore, spoil: Any) -> None:
    read(store, 1, 2, 3)
    read(store, 4)
    (broken,) = [path for path in shards(store) if len(open_shard(path).names) == 3]  # type: ignore[union-attr]
    spoil(broken)
    assert read(store, 1, 2, 3, 4) == [1, 2, 3]
    assert read(store, 1, 2, 3, 4) == []
    assert all(open_shard(path) for path in shards(store) if path.is_file())


def test_a_record_whose_bytes_changed_is_made_again_and_no_other(store: RecordStore) -> None:
    read(store, 1, 2, 3)
    (path,) = shards(store)
    content = bytearray(path.read_bytes())
    content[-4 - 24] ^= 1  # the second record
    path.write_bytes(content)
    assert read(store, 1, 2, 3) == [2]
    assert read(store, 3, 2, 1) == []


def test_an_error_leaves_only_the_shards_that_were_finished(
    store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD_BYTES", 2 * 24)
    filling = Filling(names(1, 2, 3, 4, 5), fails_at=4)
    with pytest.raises(DataError, match="frame 4: broken"):
        store.read_or_make(filling.wanted, [SHAPE] * 5, filling)
    assert {path.suffix for path in store.folder.iterdir()} == {".records", ""}  # the shard, and the lock
    assert read(store, 1, 2, 3, 4, 5) == [3, 4, 5]
    assert len(shards(store)) == 3


def test_runs_that_lack_the_same_records_wait_for_the_first(store: RecordStore) -> None:
    everybody_is_here = threading.Barrier(3)
    asked: list[list[int]] = []

    def run() -> None:
        everybody_is_here.wait()
        asked.append(read(store, *range(50)))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, asked)) == [0, 0, 50]


_WRITER = """
import os, signal, sys
from pathlib import Path
import numpy as np
from pipeline.base.storage.record_store import RecordStore

first, last, fatal = map(int, sys.argv[2:])
numbers = range(first, last)

def fill(positions, empty):
    for position, array in zip(positions, empty):
        if numbers[position] == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        array[...] = numbers[position]

store = RecordStore(Path(sys.argv[1]), np.dtype("f4"))
store.read_or_make([f"{number:064x}" for number in numbers], [(2, 3)] * len(numbers), fill)
"""


def _start(store: RecordStore, first: int, last: int, fatal: int = -1) -> subprocess.Popen[bytes]:
    arguments = [str(store.folder), str(first), str(last), str(fatal)]
    return subprocess.Popen([sys.executable, "-c", _WRITER, *arguments], cwd=ROOT)


def test_processes_may_write_at_once(store: RecordStore) -> None:
    writers = [_start(store, 0, 200), _start(store, 100, 300)]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert read(store, *range(300)) == []
    stored = [name for path in shards(store) for name in open_shard(path).names]  # type: ignore[union-attr]
    assert sorted(stored) == names(*range(300))  # none twice


def test_a_killed_writer_leaves_nothing_that_is_read_and_nothing_that_stays(store: RecordStore) -> None:
    read(store, 0)
    assert _start(store, 0, 20, fatal=10).wait() == -signal.SIGKILL
    assert len(list(store.folder.glob(".shard.*.tmp"))) == 1  # so it was killed while it wrote
    assert read(store, *range(20)) == list(range(1, 20))
    assert not list(store.folder.glob(".*"))


def test_records_that_are_being_read_stay_readable_while_the_folder_is_removed(store: RecordStore) -> None:
    filling = Filling(names(1, 2))
    records = store.read_or_make(filling.wanted, [SHAPE] * 2, filling)
    shutil.rmtree(store.folder)
    assert [record.flat[0] for record in records] == [1, 2]


def test_many_small_shards_are_merged_and_lose_nothing(store: RecordStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_SMALL", 3)
    for number in range(9):
        assert read(store, number) == [number]
        assert len(shards(store)) <= 4
    assert read(store, *range(9)) == []
    assert len(list(store.folder.iterdir())) == len(shards(store)) + 1  # and the lock


def test_a_record_that_rotted_is_not_merged(store: RecordStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_SMALL", 1)
    read(store, 1)
    (path,) = shards(store)
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    read(store, 2)
    assert read(store, 3, 2) == [3]  # merges 1 and 2
    assert read(store, 1) == [1]


def test_a_full_disk_is_one_clear_line_and_leaves_nothing(store: RecordStore, monkeypatch: pytest.MonkeyPatch) -> None:
    line = r"key: the disk is full: found [\d,]+ bytes free; expected [\d,]+ bytes; make room$"
    huge = 1 << 60
    with pytest.raises(DiskFullError, match=line):
        store.read_or_make(names(1), [(huge,)], lambda *_: pytest.fail("filled"))

    def no_room(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(DiskFullError, match=line):
        read(store, 1)
    assert [path.name for path in store.folder.iterdir()] == ["lock"]


def test_a_disk_that_does_not_keep_what_is_written_is_named(
    store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.write_shard

    def losing_a_byte(path: Path, *arguments: Any, **named: Any) -> str:
        digest = real(path, *arguments, **named)
        path.write_bytes(path.read_bytes()[:-1] + b"\xff")
        return digest

    monkeypatch.setattr(module, "write_shard", losing_a_byte)
    with pytest.raises(PipeError, match="key: records are not as they were just written; expected a disk that keeps"):
        read(store, 1)


def test_a_shard_that_this_user_may_not_read_stays_and_its_records_are_made_again(
    store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(store, 1)
    (of_another,) = shards(store)
    really = module.open_shard

    def refuse(path: Path) -> Any:
        if path == of_another:
            raise PermissionError(13, "Permission denied", str(path))
        return really(path)

    monkeypatch.setattr(module, "open_shard", refuse)
    assert read(store, 2) == [2]
    assert of_another.exists()
    of_another.rename(of_another.with_name(f"{'0' * 64}.records"))
    of_another = of_another.with_name(f"{'0' * 64}.records")
    assert read(store, 1, 2) == [1]
    assert of_another.exists()


def test_a_shard_that_cannot_be_opened_for_now_is_no_missing_one(
    store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(store, 1)

    def fail(path: Path) -> Any:
        raise OSError(24, "Too many open files", str(path))

    monkeypatch.setattr(module, "open_shard", fail)
    with pytest.raises(OSError, match="Too many open files"):
        read(store, 1)
    assert len(shards(store)) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_as_many_shards_may_be_open_as_the_system_allows(store: RecordStore) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        module._allow_open_files.cache_clear()
        read(store, 1)
        read(store, 1)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
