"""A bundle that is unpacked over one that runs: one line, and never an ImportError."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.archive import SUMS
from tests.support.tiny_bundle import rewrite_sums

LAZY = "runtime/images/pillow.py"  # is imported when the first picture is read
PIPE_BYTES = 65536


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "-m", "runtime", *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=environment, **pipes)  # type: ignore[call-overload,no-any-return]


def from_another_version(folder: Path) -> None:
    """The module of another bundle, which wants a name that this bundle's other modules lack."""
    path = folder / LAZY
    path.write_text(f"from runtime.errors import OfALaterVersion\n{path.read_text(encoding='utf-8')}", encoding="utf-8")


def cut(folder: Path) -> None:
    """A module that is being written."""
    path = folder / LAZY
    path.write_bytes(path.read_bytes()[:700])


def removed(folder: Path) -> None:
    (folder / LAZY).unlink()


def nothing(_: Path) -> None:
    pass


def classify_while(change: Callable[[Path], None], folder: Path) -> tuple[int, str]:
    """Change the bundle while `classify -` reads a picture; return its exit code and what it printed as errors."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)).save(buffer, "bmp")
    picture = buffer.getvalue() + bytes(2 * PIPE_BYTES)
    with start(folder, "classify", "-") as process:
        assert process.stdin
        process.stdin.write(picture[: 2 * PIPE_BYTES])  # returns when the process has begun to read
        change(folder)
        _, errors = process.communicate(picture[2 * PIPE_BYTES :])
    return process.returncode, errors.decode()


@pytest.mark.parametrize("change", [from_another_version, cut, removed])
def test_a_module_that_changes_under_the_process_is_named_in_one_line(
    change: Callable[[Path], None], folder: Path
) -> None:
    code, errors = classify_while(change, folder)
    line = f"runtime: {folder / 'runtime'} has changed while it ran, or is being unpacked; expected a folder that"
    assert errors.startswith(line)
    assert (code, errors.count("\n")) == (1, 1)


def test_a_folder_that_does_not_change_answers(folder: Path) -> None:
    """The negative control."""
    assert classify_while(nothing, folder) == (0, "")


@pytest.mark.parametrize("name", ["runtime/classifier.py", "runtime/__main__.py", "runtime/system/in_use.py"])
def test_a_bundle_that_is_half_unpacked_is_named_in_one_line(name: str, folder: Path) -> None:
    half = (folder / name).read_text(encoding="utf-8")
    (folder / name).write_text(half[: len(half) // 2] + "\n(", encoding="utf-8")
    with start(folder, "info") as process:
        _, errors = process.communicate()
    assert (process.returncode, errors.count(b"\n")) == (1, 1), errors
    assert b"is being unpacked" in errors


@pytest.mark.parametrize("has_list", [True, False])
def test_a_bug_of_code_that_does_not_change_keeps_its_traceback(folder: Path, *, has_list: bool) -> None:
    path = folder / "runtime" / "schema.py"
    path.write_text("from runtime.errors import OfALaterVersion\n", encoding="utf-8")
    rewrite_sums(folder)
    if not has_list:  # as in a clone
        (folder / SUMS).unlink()
    with start(folder, "info") as process:
        _, errors = process.communicate()
    assert b"Traceback" in errors
    assert b"is being unpacked" not in errors
