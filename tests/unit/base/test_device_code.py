"""The files of `runtime/` that count as the device's code."""

from __future__ import annotations

from pipeline.base.device_code import device_code
from pipeline.base.project import Project
from tests.support.command import ROOT


def test_every_file_counts_but_caches_and_litter(project: Project) -> None:
    counted = ("LICENSE", "archive.py", "clips/clip.py", "clips/notes.txt")
    (project.root / "runtime").mkdir()
    for name in (*counted, "__pycache__/archive.pyc", "clips/__pycache__/clip.pyc", ".DS_Store", "clips/._clip.py"):
        (project.runtime / name).parent.mkdir(parents=True, exist_ok=True)
        (project.runtime / name).touch()
    assert [path.relative_to(project.runtime).as_posix() for path in device_code(project)] == list(counted)


def test_a_project_without_a_runtime_has_that_of_the_toolchain(project: Project) -> None:
    names = {project.relative(path) for path in device_code(project)}
    assert {"runtime/classifier.py", "runtime/clips/clip.py", "runtime/LICENSE"} <= names
    assert all((ROOT / name).is_file() and project.locate(name) == ROOT / name for name in names)


def test_a_runtime_without_code_has_none(project: Project) -> None:
    (project.root / "runtime").mkdir()
    assert device_code(project) == []
