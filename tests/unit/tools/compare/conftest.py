"""A project with a study's recipe, whose experiments the tests plant."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.base.project import Project
from tests.support.compared_runs import RECIPE
from tests.support.experiment_project import commit, experiment_project, write_recipe


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project without an experiment. Tests must not change it."""
    project = experiment_project(tmp_path_factory.mktemp("compare") / "project")
    write_recipe(project, RECIPE.format(columns="top1"))
    commit(project.root)
    return project


@pytest.fixture
def project(bare: Project, tmp_path: Path) -> Project:
    """A copy of it."""
    return Project(shutil.copytree(bare.root, tmp_path / "project", symlinks=True))
