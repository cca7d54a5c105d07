"""Every stage that writes holds a lock, so that a second one in the project is refused and touches nothing."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

from pipeline.base.errors import DataError
from pipeline.base.files import exclusive_lock
from pipeline.base.project import Project
from pipeline.cli.stages import STAGES

# The function and the command of each stage. The tests of extract and augment have theirs.
FUNCTIONS = [
    ("pipeline.split", "split", "split"), ("pipeline.train", "train", "train"),
    ("pipeline.evaluate", "evaluate", "evaluate"), ("export.export", "export", "export"),
    ("export.parity", "parity", "parity"), ("pipeline.report", "report", "report"),
    ("export.bundle", "bundle", "bundle"),
]  # fmt: skip


def test_no_stage_is_forgotten() -> None:
    assert {command for _, _, command in FUNCTIONS} | {"extract", "augment"} == {command.name for command in STAGES}


@pytest.mark.parametrize(("room", "function", "command"), FUNCTIONS)
def test_a_second_run_of_a_stage_is_refused_before_it_reads_or_writes(
    tmp_path: Path, room: str, function: str, command: str
) -> None:
    stage = getattr(importlib.import_module(f"{room}.stage"), function)
    arguments = dict.fromkeys(inspect.signature(stage).parameters) | {"project": Project(tmp_path)}
    with (
        exclusive_lock(Project(tmp_path), f"pipe {command}"),
        pytest.raises(DataError, match=f"another `pipe {command}` is running here; wait until it has ended"),
    ):
        stage(**arguments)
    assert [path.name for path in tmp_path.iterdir()] == [".cache"]
