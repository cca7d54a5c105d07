"""A full disk is one line with what was wanted and what is free, and never a signal."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.base.errors import DiskFullError
from pipeline.base.files import replacing_file, replacing_folder
from pipeline.base.storage.disk_space import bytes_in, is_full, mapped_array


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_mapped_array_owns_its_blocks_before_anything_is_written_into_it(tmp_path: Path) -> None:
    path = tmp_path / "inputs.npy"
    mapped_array(path, (64, 3, 32, 32), np.dtype(np.float32), named=path)
    assert path.stat().st_blocks * 512 >= path.stat().st_size
    sparse = tmp_path / "sparse.npy"
    np.lib.format.open_memmap(sparse, "w+", np.dtype(np.float32), (64, 3, 256, 256))
    assert sparse.stat().st_blocks * 512 < sparse.stat().st_size  # the negative control: numpy alone claims nothing


def test_an_array_without_room_is_refused_before_it_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(DiskFullError, match=r"cache/frames: the disk is full: found [\d,]+ bytes free; expected 528 b"):
        mapped_array(tmp_path / "a.npy", (100,), np.dtype(np.float32), named=Path("cache/frames"))


def test_another_error_of_the_system_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), replacing_file(tmp_path / "a.csv"):
        raise PermissionError(errno.EACCES, "no")


def test_a_file_that_does_not_fit_is_named_with_both_numbers_and_the_old_one_stays(tmp_path: Path) -> None:
    target = tmp_path / "a.csv"
    target.write_text("old")

    def write() -> None:
        with replacing_file(target) as temporary:
            temporary.write_text("half")
            no_room()

    line = r"a.csv: the disk is full: found [\d,]+ bytes free; expected more than 4 bytes; make room$"
    with pytest.raises(DiskFullError, match=line):
        write()
    assert target.read_text() == "old"


def test_a_folder_that_does_not_fit_is_named_with_both_numbers_and_the_old_one_stays(tmp_path: Path) -> None:
    target = tmp_path / "frames"
    target.mkdir()

    def write() -> None:
        with replacing_folder(target) as temporary:
            (temporary / "inner").mkdir()
            (temporary / "inner" / "a.jpg").write_text("0123456")
            no_room()

    with pytest.raises(DiskFullError, match=r"frames: the disk is full: .* expected more than 7 bytes"):
        write()
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_that_a_library_made_of_a_full_disk_counts_as_one() -> None:
    error = RuntimeError("unexpected pos 64 vs 0")
    assert not is_full(error)
    error.__context__ = OSError(errno.ENOSPC, "No space left on device")
    assert is_full(error)


def test_a_file_with_two_names_counts_once_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "deep" / "x").write_bytes(bytes(1000))
    os.link(tmp_path / "a" / "deep" / "x", tmp_path / "a" / "y")
    (tmp_path / "outside").write_bytes(bytes(5000))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "link").symlink_to(tmp_path / "outside")
    assert bytes_in([tmp_path / "a"]) == 1000
    assert bytes_in([tmp_path / "a", tmp_path / "outside", tmp_path / "missing"]) == 6000
    assert bytes_in([tmp_path / "b"]) < 5000
