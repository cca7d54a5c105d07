"""What several test files need: the real data where it is present, and projects in temporary folders."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.base.project import Project
from tests.support.command import run_pipe
from tests.support.small_project import small_project

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data. Where it is absent, tests that need it are skipped with the reason."""
    folder = Path(os.environ.get("PIPE_SHARED", ROOT.parent / "shared")).resolve()
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data: {folder / 'data'} is absent; set PIPE_SHARED")
    return folder


@pytest.fixture(autouse=True)
def _forget_precision() -> Iterator[None]:
    """Accelerate lets one process have one precision, and `auto` differs between processors: each test starts anew."""
    yield
    if "accelerate.state" in sys.modules:
        sys.modules["accelerate.state"].AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project that holds the default `params.yaml` and nothing else."""
    root = tmp_path / "project"
    root.mkdir()
    shutil.copy(ROOT / "params.yaml", root)
    return Project(root)


@pytest.fixture(scope="session")
def _exported(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = small_project(tmp_path_factory.mktemp("small") / "project")
    for stage in ("train", "evaluate", "export", "parity"):
        finished = run_pipe(project.root, stage)
        assert finished.returncode == 0, finished.stderr
    return project


@pytest.fixture
def exported(_exported: Project, tmp_path: Path) -> Project:
    """A small project after train, evaluate, export and parity. Every test gets a copy of its own."""
    return Project(shutil.copytree(_exported.root, tmp_path / "exported"))
