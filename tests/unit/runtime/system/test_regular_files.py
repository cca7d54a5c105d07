"""What a person names is a file, or is refused at once: nothing waits for a pipe, nothing reads a device."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from runtime.system.regular_files import open_regular, read_regular


def test_a_file_is_read_and_a_link_to_one_is_followed(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"content")
    (tmp_path / "link").symlink_to("a.bin")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"content"
    assert read_regular(tmp_path / "a.bin", 7) == b"content"


def test_a_pipe_a_device_a_socket_and_a_folder_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        kinds = {
            tmp_path / "pipe": "a named pipe; expected a file",
            Path("/dev/zero"): "a device; expected a file",
            tmp_path: "Is a directory",
            tmp_path / "none": "No such file or directory",
        }
        for path, reason in kinds.items():
            with pytest.raises(OSError, match=reason) as caught:
                open_regular(path)
            assert caught.value.filename == str(path)
        with pytest.raises(OSError, match=r"socket|No such device"):  # the system itself opens no socket
            open_regular(tmp_path / "socket")


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"12345678")
    with pytest.raises(OSError, match="more than 7 bytes"):
        read_regular(tmp_path / "a.bin", 7)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(OSError, match="a device"):
            open_regular(Path("/dev/null"))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
