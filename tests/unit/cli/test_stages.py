"""The commands of the chain: each needs its input, and reads its own section of the params."""

from __future__ import annotations

import pytest

from pipeline.base.project import Project
from pipeline.cli.stages import STAGES as COMMANDS
from tests.support.command import run_pipe

STAGES = [str(command.name) for command in COMMANDS]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_without_its_input_ends_in_one_line_and_writes_nothing(project: Project, stage: str) -> None:
    finished = run_pipe(project.root, stage)
    assert finished.returncode == 1
    assert finished.stderr.startswith("pipe: ")
    assert finished.stderr.strip().count("\n") == 0
    written = [path for path in project.root.rglob("*") if path.is_file() and ".cache" not in path.parts]  # of the lock
    assert [path.name for path in written] == ["params.yaml"]


def test_an_unknown_parameter_is_refused_with_the_nearest_valid_name(project: Project) -> None:
    path = project.params_yaml
    path.write_text(path.read_text().replace("  lr: ", "  learning_rate: 1\n  lr: "))
    finished = run_pipe(path.parent, "train")
    assert finished.returncode == 1
    assert "train.learning_rate: unknown key; the nearest valid name is" in finished.stderr


def test_a_stage_reads_its_own_section_only(project: Project) -> None:
    path = project.params_yaml
    path.write_text(path.read_text().replace("  lr: ", "  learning_rate: 1\n  lr: "))
    assert "learning_rate" not in run_pipe(path.parent, "split").stderr
