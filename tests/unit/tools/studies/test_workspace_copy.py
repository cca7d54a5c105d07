"""A copy of a workspace is what git would commit, and links to the rest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.base.errors import DataError, DiskFullError
from pipeline.base.project import Project
from pipeline.tools.repository.dvc_repository import open_dvc
from pipeline.tools.studies import workspace_copy as module
from pipeline.tools.studies.workspace_copy import copy_workspace, outside_of_copies
from tests.support.experiment_project import commit, experiment_project, make_repository, run


@pytest.fixture
def changed(tmp_path: Path) -> Project:
    """A project in a folder of a repository, with every kind of change."""
    project = experiment_project(tmp_path / "石料" / "project")
    (project.root / ".git").rename(tmp_path / "unused")
    for name in ("deleted.txt", "edited.txt", "weights.pt", "junk.log"):
        (project.root / name).write_text("first", encoding="utf-8")
    with (project.root / ".gitignore").open("a", encoding="utf-8") as ignored:
        ignored.write("/weights.pt\n*.log\n/.cache\n")
    make_repository(tmp_path / "石料")
    (project.root / "deleted.txt").unlink()
    (project.root / "edited.txt").write_text("second", encoding="utf-8")
    (project.root / "staged.txt").write_text("staged", encoding="utf-8")
    run(project.root, "git", "add", "staged.txt")
    (project.root / "new.txt").write_text("new", encoding="utf-8")
    return project


def test_a_copy_has_all_changes_and_links_to_what_git_does_not_have(changed: Project, tmp_path: Path) -> None:
    shutil.rmtree(changed.dvc_cache, ignore_errors=True)  # of a new project
    outside = outside_of_copies(changed, ["weights.pt", "no file"])
    copy = copy_workspace(changed, tmp_path / "copies" / "0", outside)
    assert copy.root == tmp_path / "copies" / "0" / "石料" / "project"
    for command in (("status", "--porcelain"), ("rev-parse", "HEAD"), ("diff", "--cached"), ("config", "user.name")):
        assert run(copy.root, "git", *command) == run(changed.root, "git", *command)
    texts = {name: (copy.root / name).read_text(encoding="utf-8") for name in ("edited.txt", "new.txt", "weights.pt")}
    assert texts == {"edited.txt": "second", "new.txt": "new", "weights.pt": "first"}
    assert not (copy.root / "deleted.txt").exists()
    assert not (copy.root / "junk.log").exists()
    links = {path for path in copy.root.rglob("*") if path.is_symlink()}
    assert {path.parent.name for path in links} == {".cache", "data", "project"}
    assert all(path.resolve() == changed.root / path.relative_to(copy.root) for path in links)
    with open_dvc(copy) as copied:
        assert Path(copied.cache.local_cache_dir).resolve() == changed.dvc_cache
    assert changed.dvc_cache.is_dir()

    second = copy_workspace(copy, tmp_path / "copies" / "1", outside)
    assert second.raw.resolve() == changed.raw  # not through the first copy
    assert (second.cache / "frames").resolve() == changed.cache / "frames"
    run(second.root, "git", "fsck", "--connectivity-only")


def test_locks_of_stages_are_each_copys_own(changed: Project, tmp_path: Path) -> None:
    (changed.cache).mkdir()
    (changed.cache / "pipe_train.lock").touch()
    copy = copy_workspace(changed, tmp_path / "0", outside_of_copies(changed))
    assert not (copy.cache / "pipe_train.lock").exists()
    assert not copy.cache.is_symlink()


def test_recordings_that_dvc_tracks_come_from_its_cache_and_are_no_links(tmp_path: Path) -> None:
    project = experiment_project(tmp_path / "project")
    (project.root / ".gitignore").write_text("/data/split.csv\n/models\n/.cache\n", encoding="utf-8")
    with open_dvc(project) as repository:
        repository.add(str(project.raw))
    commit(project.root)
    (project.raw / "later.mp4").write_text("not added yet", encoding="utf-8")
    copy = copy_workspace(project, tmp_path / "0", outside_of_copies(project))
    assert not copy.raw.exists()  # `dvc exp run` checks them out
    with open_dvc(copy) as copied:
        copied.checkout(str(copy.raw_dvc))
    assert sorted(path.name for path in copy.raw.iterdir()) == ["clip.mp4", "later.mp4"]


def test_a_full_disk_and_files_that_are_not_merged_are_one_line(
    changed: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = outside_of_copies(changed)
    with monkeypatch.context() as patch:
        patch.setattr(module, "free_bytes", lambda _: 100)
        with pytest.raises(DiskFullError, match=r"bytes for a copy of the workspace; make room"):
            copy_workspace(changed, tmp_path / "0", outside)
    blob = run(changed.root, "git", "hash-object", "-w", "edited.txt").strip()
    lines = "".join(f"100644 {blob} {stage}\tboth.txt\n" for stage in (1, 2, 3))
    (tmp_path / "index").write_text(lines, encoding="utf-8")
    run(changed.root, "sh", "-c", f"git update-index --index-info < '{tmp_path / 'index'}'")
    with pytest.raises(DataError, match="git has files that are not merged"):
        copy_workspace(changed, tmp_path / "1", outside)
