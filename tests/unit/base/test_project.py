"""The paths of a project lie inside it, and a name that leaves it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.base.errors import DataError
from pipeline.base.project import Project, missing, safe_join, stage_that_writes
from tests.support.command import ROOT


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
    outside = [path for path in paths if not path.is_relative_to(tmp_path)]
    assert outside == [ROOT / "runtime"]  # of the toolchain, where the project has no code of its own
    (tmp_path / "runtime").mkdir()
    assert Project(tmp_path).runtime == tmp_path / "runtime"


def test_the_devices_code_has_one_name_wherever_it_lies(tmp_path: Path) -> None:
    project = Project(tmp_path)
    for _ in range(2):
        path = project.runtime / "session.py"
        assert project.relative(path) == "runtime/session.py"
        assert project.locate("runtime/session.py") == path
        (tmp_path / "runtime").mkdir(exist_ok=True)
    assert project.locate("data/raw/runtime/a.mp4") == project.raw / "runtime" / "a.mp4"
    with pytest.raises(DataError, match="leaves the project"):
        project.locate("runtime/../../secret")


def outs_of_dvc() -> dict[str, str]:
    """The stage that writes each file and folder, by dvc.yaml."""
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    outs = [(out if isinstance(out, str) else next(iter(out)), name) for name in stages for out in stages[name]["outs"]]
    return dict(outs)


def test_the_stage_that_writes_a_file_is_that_of_dvc_yaml() -> None:
    outs = outs_of_dvc()
    assert len(outs) > 20
    assert {out: stage_that_writes(Path(out)) for out in outs} == outs
    paths = [value for name in vars(Project) if isinstance(value := getattr(Project(Path()), name), Path)]
    written = {path.as_posix() for path in paths if stage_that_writes(path)}
    assert written == set(outs)


@pytest.mark.parametrize(
    ("path", "stage"),
    [
        ("/home/anna/data/frames/project/data/augmented/a/b.jpg", "augment"),
        ("data/frames/brick/clip.mp4/000001.jpg", "extract"),
        ("models/golden/001.npy", "parity"),
        ("data/groups.csv", ""),
        ("data/raw/brick/clip.mp4", ""),
        ("frames.csv", ""),
        ("/", ""),
    ],
)
def test_a_file_below_an_output_is_of_its_stage(path: str, stage: str) -> None:
    assert stage_that_writes(Path(path)) == stage


def test_a_missing_file_names_the_command_that_writes_it() -> None:
    assert str(missing(Path("reports/split.json"))) == "reports/split.json: missing; run `pipe split`"
    assert str(missing(Path("data/groups.csv"))) == "data/groups.csv: missing"
