"""toolchain.lock names the code of every stage, and a stage does not run with other code."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from pipeline.base import code_digest
from pipeline.base.errors import DataError, ParamsError
from pipeline.base.project import Project
from pipeline.tools.project.toolchain import (
    Toolchain,
    changed_stages,
    check_toolchain,
    installed_digests,
    read_toolchain,
)
from tests.house.rooms import PACKAGES, ROOT, STAGE_NAMES
from tests.support.command import run_pipe

INSTALLED = Toolchain("1.0", installed_digests(), "0" * 64)


def write_lock(project: Project, toolchain: Toolchain) -> None:
    project.toolchain_lock.write_text(toolchain.to_yaml(), encoding="utf-8")


def changed_by(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages whose digest changes with a line in a file of a copy of the code."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / path).open("a", encoding="utf-8") as file:
        file.write("\n")
    monkeypatch.setattr(code_digest, "CODE_ROOT", tmp_path)
    return changed_stages(INSTALLED)


def test_a_lock_is_read_as_it_was_written(project: Project) -> None:
    odd = Toolchain("1.0", {"extract": "1234567890123456", "augment": "12e456"}, "0")  # YAML has numbers like these
    write_lock(project, odd)
    assert read_toolchain(project) == odd


@pytest.mark.parametrize(
    ("path", "stages"),
    [
        ("pipeline/train/fit.py", ["train"]),
        ("pipeline/report/report.html.j2", ["report"]),
        ("export/bundle/readme_template.md", ["bundle"]),
        ("pipeline/draw/sheets.py", ["split", "evaluate", "parity"]),
        ("runtime/session.py", ["export", "parity", "bundle"]),
        ("pipeline/base/errors.py", list(STAGE_NAMES)),
        ("pipeline/tools/adding/add.py", []),
        ("pipeline/cli/main.py", []),
    ],
)
def test_a_line_of_code_changes_the_digests_of_the_stages_that_import_it(
    path: str, stages: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert changed_by(path, tmp_path, monkeypatch) == stages


def test_a_stage_stops_where_the_code_is_another_and_only_that_stage(project: Project) -> None:
    write_lock(project, Toolchain("0.9", {**INSTALLED.digests, "train": "f" * 64}, ""))
    with pytest.raises(DataError) as caught:
        check_toolchain("train", project)
    said = str(caught.value)
    assert f"{project.toolchain_lock}: train: found clip2edge " in said
    assert "expected 0.9 with ffffffff; install that version, or run `pipe upgrade`" in said
    assert check_toolchain("split", project) is None  # does not raise


def test_a_stage_that_the_lock_does_not_name_stops(project: Project) -> None:
    write_lock(project, Toolchain("0.9", {"extract": INSTALLED.digests["extract"]}, ""))
    with pytest.raises(DataError, match="with none; install"):
        check_toolchain("train", project)


def test_another_version_with_the_same_code_runs(project: Project) -> None:
    write_lock(project, Toolchain("0.0.1", INSTALLED.digests, ""))
    assert [check_toolchain(stage, project) for stage in STAGE_NAMES] == [None] * len(STAGE_NAMES)  # none raises


@pytest.mark.parametrize("text", ["<<<<<<< ours\n", "- a\n", "extract: 3\n", "extract: {a: b}\n", "a: &b c\nd: *b\n"])
def test_a_broken_lock_is_refused_and_names_the_command(project: Project, text: str) -> None:
    project.toolchain_lock.write_text(text, encoding="utf-8")
    with pytest.raises(ParamsError, match=r"toolchain\.lock.*; run `pipe upgrade`"):
        read_toolchain(project)


def test_no_lock_names_the_command_that_makes_a_project(project: Project) -> None:
    with pytest.raises(DataError, match="missing; `pipe init DIR` makes a project"):
        read_toolchain(project)


def projects_of_stages(tree: ast.Module) -> dict[str, set[str]]:
    """By stage, what its command gives to the stage as the project, such as `project_for('train')`."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    of_stages = [(call, ast.unparse(call.func).removeprefix("stage.")) for call in calls]
    projects: dict[str, set[str]] = {name: set() for name in STAGE_NAMES}
    for call, name in of_stages:
        if name in projects:
            projects[name] |= {ast.unparse(part) for part in call.args if "project" in ast.unparse(part)}
    return projects


def test_every_stage_asks_the_lock_before_it_works() -> None:
    text = (ROOT / "pipeline" / "cli" / "stages.py").read_text(encoding="utf-8")
    asking = {name: {f"project_for('{name}')"} for name in STAGE_NAMES}
    assert projects_of_stages(ast.parse(text)) == asking
    assert projects_of_stages(ast.parse(text.replace('project_for("train")', "current_project()"))) != asking


def test_the_line_is_one_and_the_exit_code_says_that_the_person_can_fix_it(project: Project) -> None:
    write_lock(project, Toolchain("0.9", {**INSTALLED.digests, "report": "f" * 64}, ""))
    finished = run_pipe(project.root, "report")
    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr.startswith("pipe: ")
    assert finished.stderr.count("\n") == 1
    assert "toolchain.lock: report: found clip2edge" in finished.stderr
