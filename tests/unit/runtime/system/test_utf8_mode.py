"""Names in any script work in every locale, on the PC and on the device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import ROOT

# As in a container without locales, with Python's own remedies switched off.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def run(module: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, **ASCII, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)


@pytest.mark.parametrize(("module", "command"), [("pipeline", "extract"), ("runtime", "info --bundle")])
def test_a_name_is_told_as_it_was_given(tmp_path: Path, module: str, command: str) -> None:
    finished = run(module, *command.split(), "砾石.mp4", folder=tmp_path)
    assert finished.returncode == 1
    assert "砾石.mp4" in finished.stderr.decode("utf-8")


def test_without_the_restart_the_name_would_be_broken(tmp_path: Path) -> None:
    program = "import sys; print(ascii(sys.argv[1]))"
    command = [sys.executable, "-c", program, "砾石"]
    finished = subprocess.run(command, env={**os.environ, **ASCII}, capture_output=True, check=True)
    assert b"\\udce7" in finished.stdout  # the negative control
