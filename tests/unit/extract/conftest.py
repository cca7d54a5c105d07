"""A project with two clips."""

from __future__ import annotations

import pytest

from pipeline.base.project import Project
from tests.support.media import write_raw


@pytest.fixture
def filled(project: Project) -> Project:
    """A project with a clip in each of two classes."""
    write_raw(project.raw, clips=1)
    return project
