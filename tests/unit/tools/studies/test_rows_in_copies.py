"""Rows in copies: what the studies of test_study.py do not reach."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from pipeline.base.errors import DataError
from pipeline.tools.studies.experiment_run import PlannedRun
from pipeline.tools.studies.rows_in_copies import run_in_copies
from pipeline.tools.studies.workspace_copy import outside_of_copies
from tests.support.experiment_project import experiment_project


def test_the_copies_of_a_study_that_runs_are_not_removed(tmp_path: Path) -> None:
    project = experiment_project(tmp_path / "project")
    folder = outside_of_copies(project).copies
    folder.mkdir(parents=True)
    planned = PlannedRun("tiny-a", project.params_yaml.read_text(encoding="utf-8"), ())
    with FileLock(f"{folder}.lock"), pytest.raises(DataError, match="the rows of another study run here; wait"):
        run_in_copies("study tiny", [(1, planned)], 2, project, 1)
    assert folder.is_dir()
