"""Fixtures of the tests of `pipe predict`: a project whose graph tells colours apart, and the sampling of clips."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from export.bundle.stage import bundle
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.extract.params import ExtractParams
from pipeline.tools.predict.predict import open_classifier
from runtime.classifier import Classifier
from tests.support.tiny_bundle import ROOT, write_project


@pytest.fixture(scope="session")
def colour_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with graphs and a bundle. Tests must not change it."""
    project = write_project(tmp_path_factory.mktemp("colours") / "project")
    bundle(project)
    return project


@pytest.fixture
def colour_classifier(colour_project: Project) -> Iterator[Classifier]:
    """The classifier of that project."""
    with open_classifier(colour_project, None) as named:
        yield named.classifier


@pytest.fixture(scope="session")
def extract_params() -> ExtractParams:
    """The defaults: clips are sampled at one frame per second."""
    return read_section(ROOT / "params.yaml", "extract", ExtractParams)
