"""What stands around a project is told in one line where it will not do, and not at all where it will."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.tools import doctor
from pipeline.tools.project import surroundings
from pipeline.tools.project.init import init
from pipeline.tools.project.surroundings import (
    identity_problem,
    linked_raw_problem,
    refuse_no_identity,
    repository_problem,
    windows_drive_problem,
)
from pipeline.tools.project.toolchain import Toolchain, installed_digests

MOUNTS = """\
/dev/sdc / ext4 rw,relatime 0 0
drives /mnt/c 9p rw,noatime,aname=drvfs 0 0
drives /mnt/my\\040disk drvfs rw 0 0
"""


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder in which git knows nobody."""
    for variable in ("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def test_git_without_a_name_and_an_address_is_named_with_the_commands(nobody: Path) -> None:
    said = identity_problem(nobody) or ""
    assert said.startswith("git: found no user.name and no user.email; commits and experiments need them: ")
    assert said.endswith("git config --global user.name … && git config --global user.email …")
    with pytest.raises(DataError, match=r"found no user\.name"):
        refuse_no_identity(nobody)


def test_a_half_identity_names_the_other_half(nobody: Path) -> None:
    (nobody / ".gitconfig").write_text("[user]\n\tname = a\n", encoding="utf-8")
    assert (identity_problem(nobody) or "").startswith("git: found no user.email; ")


@pytest.mark.parametrize("source", ["config", "environment"])
def test_a_whole_identity_is_no_problem(source: str, nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if source == "config":
        (nobody / ".gitconfig").write_text("[user]\n\tname = a\n\temail = a@example.org\n", encoding="utf-8")
    else:
        monkeypatch.setenv("GIT_COMMITTER_NAME", "a")
        monkeypatch.setenv("GIT_COMMITTER_EMAIL", "a@example.org")
    assert identity_problem(nobody) is None


def test_a_study_asks_for_the_identity_before_it_runs_anything(nobody: Path, project: Project) -> None:
    from pipeline.tools.studies.study import study

    commands = (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "a"])
    for command in commands:
        subprocess.run(["git", *command], cwd=project.root, check=True)
    with pytest.raises(DataError, match=r"found no user\.name"):
        study("fish", (), 1, project)


def test_a_project_that_was_unpacked_from_a_zip_has_no_repository(project: Project) -> None:
    assert repository_problem(project) is None  # no dvc.yaml: no project either
    project.dvc_yaml.touch()
    assert "found no git repository; expected one, since DVC needs it: git init && " in str(repository_problem(project))
    subprocess.run(["git", "init", "--quiet"], cwd=project.root, check=True)
    assert repository_problem(project) is None


def test_a_link_in_place_of_the_recordings_is_named_and_git_ignores_it_like_the_folder(project: Project) -> None:
    from tests.house.rooms import ROOT

    assert linked_raw_problem(project) is None
    elsewhere = project.root / "elsewhere"
    elsewhere.mkdir()
    project.raw.parent.mkdir()
    project.raw.symlink_to(elsewhere)
    assert f"a link to {elsewhere}; stages read it, but DVC cannot track" in str(linked_raw_problem(project))
    subprocess.run(["git", "init", "--quiet"], cwd=project.root, check=True)
    (project.root / ".gitignore").write_bytes((ROOT / ".gitignore").read_bytes())
    ignored = subprocess.run(["git", "check-ignore", "data/raw"], cwd=project.root, check=False, capture_output=True)
    assert ignored.returncode == 0
    project.raw.unlink()
    project.raw.mkdir()
    assert linked_raw_problem(project) is None


@pytest.mark.parametrize(
    ("kernel", "folder", "is_problem"),
    [
        ("5.15.90.1-microsoft-standard-WSL2", "/mnt/c/film", True),
        ("4.4.0-19041-Microsoft", "/mnt/my disk/film", True),
        ("5.15.90.1-microsoft-standard-WSL2", "/home/a/film", False),
        ("6.1.0-18-amd64", "/mnt/c/film", False),
    ],
)
def test_a_drive_of_windows_is_named_under_wsl_alone(
    kernel: str, folder: str, is_problem: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "osrelease").write_text(f"{kernel}\n", encoding="utf-8")
    (tmp_path / "mounts").write_text(MOUNTS, encoding="utf-8")
    monkeypatch.setattr(surroundings, "_KERNEL", tmp_path / "osrelease")
    monkeypatch.setattr(surroundings, "_MOUNTS", tmp_path / "mounts")
    said = windows_drive_problem(Path(folder))
    assert (said is not None) == is_problem
    assert said is None or said.startswith(f"{folder}: on a drive of Windows")


def test_the_doctor_tells_each_problem(nobody: Path, project: Project) -> None:
    assert [check.name for check in doctor._around(project)] == ["identity"]
    project.dvc_yaml.touch()
    project.raw.parent.mkdir()
    project.raw.symlink_to(nobody)
    levels = {check.name: check.level for check in doctor._around(project)}
    assert levels == {"identity": "warn", "repository": "fail", "recordings": "warn"}


def test_the_doctor_names_stages_whose_code_is_another(project: Project) -> None:
    assert list(doctor._toolchain(project)) == []
    digests = installed_digests()
    project.toolchain_lock.write_text(Toolchain("1", digests, "").to_yaml(), encoding="utf-8")
    assert [check.level for check in doctor._toolchain(project)] == ["ok"]
    project.toolchain_lock.write_text(Toolchain("1", {**digests, "train": "0"}, "").to_yaml(), encoding="utf-8")
    (check,) = doctor._toolchain(project)
    assert str(check).startswith("fail toolchain: train: other code than toolchain.lock names")
    project.toolchain_lock.write_text("a: [", encoding="utf-8")
    (check,) = doctor._toolchain(project)
    assert check.level == "fail"
    assert "not valid YAML" in check.text


def test_a_drive_of_windows_and_a_missing_identity_are_told_by_the_doctor_and_where_a_project_is_made(
    nobody: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(surroundings, "_is_wsl", lambda: True)
    monkeypatch.setattr(surroundings, "_file_system_of", lambda folder: "9p")
    init(nobody / "materials")
    said = capsys.readouterr().err
    assert said.count("on a drive of Windows") == said.count("git: found no user.name") == 1
    lines = {check.name: check for check in doctor._around(Project(nobody / "materials"))}
    assert "on a drive of Windows" in lines["drive"].text
    monkeypatch.setattr(surroundings, "_is_wsl", lambda: False)
    init(nobody / "other")
    assert "Windows" not in capsys.readouterr().err
