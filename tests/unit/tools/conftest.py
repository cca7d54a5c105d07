"""What the tests of answering need: a project whose graph answers with colours, and how clips are sampled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from export.bundle.stage import bundle
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.extract.params import ExtractParams
from pipeline.tools.predict.predict import opened
from runtime.classifier import Classifier
from tests.support.tiny_bundle import ROOT, write_project


@pytest.fixture(scope="session")
def colour_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with graphs and a bundle; not to be changed."""
    project = write_project(tmp_path_factory.mktemp("colours") / "project")
    bundle(project)
    return project


@pytest.fixture
def colour_classifier(colour_project: Project) -> Iterator[Classifier]:
    """The project's own."""
    with opened(colour_project, None) as found:
        yield found


@pytest.fixture(scope="session")
def extract_params() -> ExtractParams:
    """The defaults: one frame per second."""
    return read_section(ROOT / "params.yaml", "extract", ExtractParams)
