"""The paths of a project lie inside it, and a name that leaves it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.base.errors import DataError
from pipeline.base.project import Project, safe_join


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../../x", "a\\b", "a\0b"])
def test_a_name_that_leaves_the_project_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="leaves the project"):
        safe_join(Path("project"), name)


@pytest.mark.parametrize("name", ["a", "data/frames/鳞片 石墨/a.b.jpg", "..a/b.."])
def test_a_name_inside_the_project_is_joined(name: str) -> None:
    assert safe_join(Path("project"), name) == Path("project") / name


def test_manifests_spell_paths_relative_to_the_project(tmp_path: Path) -> None:
    project = Project(tmp_path)
    assert project.relative(project.frames / "鳞片" / "a.jpg") == "data/frames/鳞片/a.jpg"


def test_every_path_of_a_project_is_inside_it(tmp_path: Path) -> None:
    values = [getattr(Project(tmp_path), name) for name in vars(Project)]
    paths = [value for value in values if isinstance(value, Path)]
    assert len(set(paths)) == len(paths) > 10
    assert all(path.is_relative_to(tmp_path) for path in paths)
