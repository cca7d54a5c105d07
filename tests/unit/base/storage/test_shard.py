"""The file of a shard: it is read as it was written, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.base.errors import DiskFullError
from pipeline.base.storage.shard import Bytes, open_shard, write_shard

NAMES = ["00" * 32, "0a" * 31 + "00", "ff" * 32]  # with zeros at both ends
SIZES = [5, 0, 300]


def _fill(empty: list[Bytes]) -> list[float]:
    for number, content in enumerate(empty, start=1):
        content[:] = number
    return [0.5, 0.0, 2.0]


def _write(path: Path, fill: Callable[[list[Bytes]], list[float]] = _fill) -> str:
    return write_shard(path, list(zip(NAMES, SIZES, strict=True)), fill, named=path)


def test_a_shard_is_read_as_it_was_written(tmp_path: Path) -> None:
    _write(tmp_path / "a")
    shard = open_shard(tmp_path / "a")
    assert shard is not None
    assert shard.names == NAMES
    assert [shard.record(slot).tolist() for slot in range(3)] == [[1] * 5, [], [3] * 300]
    assert [shard.seconds(slot) for slot in range(3)] == [0.5, 0.0, 2.0]
    assert all(shard.is_whole(slot) for slot in range(3))
    with pytest.raises(ValueError, match="read-only"):
        shard.record(0)[0] = 9


def test_equal_records_give_equal_names_of_a_file_whatever_making_them_took(tmp_path: Path) -> None:
    def slower(empty: list[Bytes]) -> list[float]:
        return [10 * seconds for seconds in _fill(empty)]

    def others(empty: list[Bytes]) -> list[float]:
        seconds = _fill(empty)
        empty[2][0] += 1
        return seconds

    names = [_write(tmp_path / str(number), fill) for number, fill in enumerate((_fill, slower, others))]
    assert names[0] == names[1] != names[2]


def test_every_file_that_is_cut_is_no_shard(tmp_path: Path) -> None:
    _write(tmp_path / "a")
    content = (tmp_path / "a").read_bytes()
    for length in range(0, len(content), 7):
        (tmp_path / "cut").write_bytes(content[:length])
        assert open_shard(tmp_path / "cut") is None
    (tmp_path / "longer").write_bytes(content + b"0")
    assert open_shard(tmp_path / "longer") is None
    (tmp_path / "empty").write_bytes(bytes(len(content)))  # as a power cut leaves it
    assert open_shard(tmp_path / "empty") is None
    assert open_shard(tmp_path / "missing") is None
    assert open_shard(tmp_path) is None


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    _write(tmp_path / "a")
    content = (tmp_path / "a").read_bytes()
    n_padding = len(content) - sum(SIZES) - 32 - 3 * 56
    n_unnoticed = 0
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 16
        (tmp_path / "changed").write_bytes(changed)
        shard = open_shard(tmp_path / "changed")
        n_unnoticed += shard is not None and all(shard.is_whole(slot) for slot in range(3))
    assert n_unnoticed == n_padding < 64


def test_a_shard_owns_its_blocks_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(DiskFullError, match=r"frames: the disk is full: found [\d,]+ bytes free; expected 561 bytes"):
        write_shard(
            tmp_path / "a",
            list(zip(NAMES, SIZES, strict=True)),
            lambda _: pytest.fail("filled"),
            named=Path("frames"),
        )


def test_a_shard_may_hold_nothing(tmp_path: Path) -> None:
    write_shard(tmp_path / "a", [], lambda _: [], named=tmp_path)
    shard = open_shard(tmp_path / "a")
    assert shard is not None
    assert shard.names == []


@pytest.mark.parametrize(("code", "is_no_shard"), [(2, True), (22, True), (13, False), (24, False), (5, False)])
def test_a_file_that_cannot_be_read_for_now_is_told_from_one_that_is_no_shard(
    code: int, is_no_shard: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise OSError(code, "no", str(path))

    monkeypatch.setattr("pipeline.base.storage.shard.open_regular", fail)
    if is_no_shard:
        assert open_shard(tmp_path / "a") is None
        return
    with pytest.raises(OSError, match="no"):
        open_shard(tmp_path / "a")
