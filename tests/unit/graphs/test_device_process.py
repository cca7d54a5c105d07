"""The program of the device's process: it runs `runtime`, and torch cannot be imported there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from export.graphs.device_process import AS_ON_A_DEVICE
from tests.support.command import ROOT


def run_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", AS_ON_A_DEVICE, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_runtime_runs_in_it() -> None:
    finished = run_in(ROOT, "--help")
    assert finished.returncode == 0, finished.stderr
    assert "selfcheck" in finished.stdout


@pytest.mark.parametrize("name", ["torch", "pipeline.base.errors", "export.graphs.gates"])
def test_a_runtime_that_imports_what_a_device_lacks_fails(name: str, tmp_path: Path) -> None:
    package = tmp_path / "runtime"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(f"import {name}")
    finished = run_in(tmp_path)
    assert finished.returncode != 0
    assert "ModuleNotFoundError" in finished.stderr
