"""A full disk below the temporary folder is one line, also where a library hides the system's error."""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path

import pytest

from pipeline.base.errors import DataError, DiskFullError
from pipeline.base.storage.scratch import library_temporaries_in, scratch_folder


class LibraryError(Exception):
    """An error such as onnxruntime's, which knows no cause."""


def fail_after_writing(error: Exception) -> Path:
    with scratch_folder("simplify") as folder:
        (folder / "half.onnx").write_bytes(bytes(1000))
        raise error


@pytest.mark.parametrize("error", [LibraryError("serialization failed"), shutil.Error([("a", "b", "[Errno 28]")])])
def test_an_error_without_a_cause_on_a_full_disk_is_one_of_the_disk(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.base.storage.disk_space.free_bytes", lambda _: 4096)
    line = r"-simplify-.*: the disk is full: found 4,096 bytes free; expected more than 1,000 bytes; make room"
    with pytest.raises(DiskFullError, match=line):
        fail_after_writing(error)


def test_the_same_error_beside_free_space_stays_what_it_is() -> None:
    with pytest.raises(LibraryError, match="serialization failed"):
        fail_after_writing(LibraryError("serialization failed"))


@pytest.mark.parametrize("error", [DataError("x.jpg: broken"), PermissionError(errno.EACCES, "no")])
def test_an_error_with_a_known_cause_stays_what_it_is_on_a_full_disk(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.base.storage.disk_space.free_bytes", lambda _: 0)
    with pytest.raises(type(error)):
        fail_after_writing(error)


def test_the_folder_is_gone_afterwards() -> None:
    with scratch_folder("ranges") as folder:
        assert folder.is_dir()
    assert not folder.exists()


def test_what_a_library_leaves_for_a_moment_lies_in_our_own_folder() -> None:
    usual = tempfile.gettempdir()
    with scratch_folder("export") as folder, library_temporaries_in(folder):
        assert Path(tempfile.mkdtemp()).parent == folder
        with scratch_folder("simplify") as inner:
            assert inner.parent == folder
    assert tempfile.gettempdir() == usual
    assert not folder.exists()
