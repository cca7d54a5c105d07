"""An unpacked bundle for the tests of the device's code: made once, and copied for each test that damages it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from export.bundle.stage import bundle
from runtime.archive import unpack
from tests.support.tiny_bundle import draft_contract, scored_graph, with_thresholds, write_project


@pytest.fixture(scope="session")
def bundle_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with two variants; tests must not change it."""
    project = write_project(tmp_path_factory.mktemp("bundle") / "project", draft_contract("fp32", "int8"))
    bundle(project)
    return project.bundle_zip


@pytest.fixture(scope="session")
def pristine(bundle_zip: Path) -> Path:
    """The bundle unpacked; tests must not change it."""
    folder = bundle_zip.parent / "unpacked"
    unpack(bundle_zip, folder)
    return folder


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    """An unpacked bundle whose graphs give a known score; a picture of it scores about 4, and the threshold is 3."""
    contract = with_thresholds(draft_contract("fp32", "int8"), 3.0, 3.0, "known_score")
    project = write_project(tmp_path / "project", contract, scored_graph)
    bundle(project)
    unpack(project.bundle_zip, tmp_path / "scored")
    return tmp_path / "scored"


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the unpacked bundle that a test may damage."""
    return Path(shutil.copytree(pristine, tmp_path / "bundle"))
