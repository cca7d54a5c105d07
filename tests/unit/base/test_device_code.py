"""The files of `runtime/` that count as the device's code."""

from __future__ import annotations

from pipeline.base.device_code import device_code
from pipeline.base.project import Project


def test_every_file_counts_but_caches_and_litter(project: Project) -> None:
    counted = ("LICENSE", "archive.py", "clips/clip.py", "clips/notes.txt")
    for name in (*counted, "__pycache__/archive.pyc", "clips/__pycache__/clip.pyc", ".DS_Store", "clips/._clip.py"):
        (project.runtime / name).parent.mkdir(parents=True, exist_ok=True)
        (project.runtime / name).touch()
    assert [path.relative_to(project.runtime).as_posix() for path in device_code(project)] == list(counted)


def test_a_project_without_a_runtime_has_none(project: Project) -> None:
    assert device_code(project) == []
