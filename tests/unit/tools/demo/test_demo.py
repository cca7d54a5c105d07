"""The demo leaves a project with clips alone. `tests/integration` and `make demo` run the whole chain."""

from __future__ import annotations

import pytest

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.tools.demo.demo import DemoReport, demo
from tests.support.media import write_photo


def test_a_project_with_recordings_is_left_alone(project: Project) -> None:
    photo = write_photo(project.raw / "flake" / "mine.png")
    before = project.params_yaml.read_bytes()
    with pytest.raises(DataError, match="found clips; the demo makes its own and needs an empty project"):
        demo(project)
    assert photo.is_file()
    assert project.params_yaml.read_bytes() == before


def test_the_closing_line_counts_the_answers_that_differ() -> None:
    assert DemoReport(44, 1).headline == (
        "the bundle answered 44 test frames, 1 differ from predictions.csv; reports/report.html"
    )
