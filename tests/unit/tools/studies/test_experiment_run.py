"""A run is followed line by line, and ended in order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.tools.studies.experiment_run import follow

_ENDS_IN_ORDER = """
import pathlib, signal, sys, time

def end(*_):
    pathlib.Path("ended").touch()
    sys.exit(1)

signal.signal(signal.SIGINT, end)
pathlib.Path("begun").touch()
time.sleep(60)
"""


def test_an_interrupt_lets_the_run_end_in_order(tmp_path: Path) -> None:
    def is_running() -> bool:
        if (tmp_path / "begun").exists():
            raise KeyboardInterrupt
        return True

    command = [sys.executable, "-c", _ENDS_IN_ORDER]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, process_group=0) as process:
        try:
            with pytest.raises(KeyboardInterrupt):
                follow(process, "study tiny", is_running)
            assert (tmp_path / "ended").exists()
            assert process.returncode == 1
        finally:
            process.kill()
