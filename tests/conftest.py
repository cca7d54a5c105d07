"""What several test files need: the shared data where it is present, and a project in a temporary folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pipeline.files import Project

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data; tests that need it skip, saying so, where it is absent."""
    folder = Path(os.environ.get("PIPE_SHARED", ROOT.parent / "shared")).resolve()
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data: {folder / 'data'} is absent; set PIPE_SHARED")
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project with the defaults."""
    root = tmp_path / "project"
    root.mkdir()
    shutil.copy(ROOT / "params.yaml", root)
    return Project(root)
