"""A copy of a workspace is what git would commit, and links to the rest."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from pipeline.base.errors import DataError, DiskFullError
from pipeline.base.project import Project
from pipeline.tools.repository.dvc_repository import open_dvc
from pipeline.tools.studies import workspace_copy as module
from pipeline.tools.studies.workspace_copy import Outside, copy_workspace, outside_of_copies, refuse_no_room
from tests.support.experiment_project import ROOT, commit, experiment_project, make_repository, run


@pytest.fixture
def changed(tmp_path: Path) -> Project:
    """A project in a folder of a repository, with every kind of change."""
    project = experiment_project(tmp_path / "石料" / "project")
    (project.root / ".git").rename(tmp_path / "unused")
    for name in ("deleted.txt", "edited.txt", "weights.pt", "junk.log"):
        (project.root / name).write_text("first", encoding="utf-8")
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8")
    (project.root / ".gitignore").write_text(f"{ignored}/weights.pt\n*.log\n", encoding="utf-8")
    make_repository(tmp_path / "石料")
    (project.root / "deleted.txt").unlink()
    (project.root / "edited.txt").write_text("second", encoding="utf-8")
    (project.root / "staged.txt").write_text("staged", encoding="utf-8")
    run(project.root, "git", "add", "staged.txt")
    (project.root / "new.txt").write_text("new", encoding="utf-8")
    (project.root / os.fsdecode(b"gr\xfcn.txt")).touch()  # Latin-1
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
    assert (copy.root / os.fsdecode(b"gr\xfcn.txt")).exists()
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


def test_projects_with_one_dvc_have_folders_of_their_own_that_a_move_does_not_change(tmp_path: Path) -> None:
    projects = [Project(tmp_path / "a"), Project(tmp_path / "b"), Project(tmp_path)]
    folders = {Outside(project, tmp_path / ".dvc", tmp_path, {}, (), (), 0).copies for project in projects}
    assert len(folders) == 3
    assert {folder.parent for folder in folders} == {tmp_path / ".dvc" / "tmp" / "study"}
    moved = Outside(Project(tmp_path / "moved" / "a"), tmp_path / "moved" / ".dvc", tmp_path, {}, (), (), 0)
    assert moved.copies.name in {folder.name for folder in folders}


def test_locks_of_stages_are_each_copys_own(changed: Project, tmp_path: Path) -> None:
    (changed.cache).mkdir()
    (changed.cache / "pipe_train.lock").touch()
    copy = copy_workspace(changed, tmp_path / "0", outside_of_copies(changed))
    assert not (copy.cache / "pipe_train.lock").exists()
    assert not copy.cache.is_symlink()


def test_a_copy_has_folders_where_the_project_has_links_to_what_stages_write(changed: Project, tmp_path: Path) -> None:
    elsewhere = tmp_path / "larger disk"
    for name in (".cache", "models"):
        (elsewhere / name).mkdir(parents=True)
        (changed.root / name).symlink_to(elsewhere / name)
    (elsewhere / "notes.txt").write_text("notes", encoding="utf-8")
    (changed.root / "notes.txt").symlink_to("../../larger disk/notes.txt")
    (changed.root / "same.txt").symlink_to("new.txt")
    copy = copy_workspace(changed, tmp_path / "deep" / "0", outside_of_copies(changed))
    assert copy.cache.is_dir()
    assert not copy.cache.is_symlink()
    assert (copy.cache / "frames").resolve() == elsewhere / ".cache" / "frames"
    assert not (copy.root / "models").exists()
    assert (copy.root / "notes.txt").read_text(encoding="utf-8") == "notes"
    assert (copy.root / "same.txt").readlink() == Path("new.txt")


def test_a_link_that_has_taken_the_place_of_a_tracked_folder_is_a_link_in_the_copy(
    changed: Project, tmp_path: Path
) -> None:
    notes = changed.root / "notes"
    notes.mkdir()
    (notes / "a.txt").write_text("notes", encoding="utf-8")
    run(changed.root, "git", "add", "notes")
    notes.rename(tmp_path / "notes")
    notes.symlink_to(tmp_path / "notes")
    copy = copy_workspace(changed, tmp_path / "0", outside_of_copies(changed))
    assert (copy.root / "notes").readlink() == tmp_path / "notes"


@pytest.mark.parametrize(("name", "leads_to"), [("models", "new.txt"), ("notes.txt", "../../../notes.txt")])
def test_a_link_that_a_copy_cannot_have_and_git_tracks_is_refused(
    changed: Project, tmp_path: Path, name: str, leads_to: str
) -> None:
    (changed.root / name).symlink_to(leads_to)
    run(changed.root, "git", "add", "--force", name)
    with pytest.raises(DataError, match=f"{name}: git tracks this link, which a copy cannot have"):
        copy_workspace(changed, tmp_path / "0", outside_of_copies(changed))


def test_recordings_that_dvc_tracks_come_from_its_cache_and_are_no_links(tmp_path: Path) -> None:
    project = experiment_project(tmp_path / "project")
    (project.root / ".gitignore").write_text("/data/split.csv\n/models\n/.cache\n", encoding="utf-8")
    with open_dvc(project) as repository:
        repository.add(str(project.raw))
    commit(project.root)
    (project.raw / "later.mp4").write_text("not added yet", encoding="utf-8")
    outside = outside_of_copies(project)
    assert outside.n_tracked_bytes == len("a clip") + len("not added yet")
    copy = copy_workspace(project, tmp_path / "0", outside)
    assert not copy.raw.exists()  # `dvc exp run` checks them out
    with open_dvc(copy) as copied:
        copied.checkout(str(copy.raw_dvc))
    assert sorted(path.name for path in copy.raw.iterdir()) == ["clip.mp4", "later.mp4"]


@pytest.mark.parametrize(
    ("cache_type", "free", "is_refused"), [("copy", 19, True), ("copy", 20, False), ("hardlink,copy", 19, False)]
)
def test_what_dvc_would_copy_into_each_copy_must_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_type: str, free: int, is_refused: bool
) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda _: free)
    settings = {"cache": {"type": cache_type}}
    outside = Outside(Project(tmp_path), tmp_path / ".dvc", tmp_path / "cache", settings, (), (), n_tracked_bytes=10)
    expected = pytest.raises(DiskFullError, match="expected 20 bytes for what DVC tracks in 2 copies of the workspace")
    with expected if is_refused else contextlib.nullcontext():
        refuse_no_room(tmp_path, 2, outside)


def test_a_sparse_checkout_is_refused(changed: Project, tmp_path: Path) -> None:
    run(changed.root, "git", "restore", "deleted.txt")
    outside = outside_of_copies(changed)
    run(changed.root.parent, "git", "sparse-checkout", "set", "--no-cone", "/*", "!deleted.txt")
    assert not (changed.root / "deleted.txt").exists()
    with pytest.raises(DataError, match=r"a sparse checkout, .*run `git sparse-checkout disable`"):
        copy_workspace(changed, tmp_path / "0", outside)
    run(changed.root, "git", "sparse-checkout", "disable")
    assert copy_workspace(changed, tmp_path / "1", outside).raw.exists()


def test_the_reason_of_git_is_told(changed: Project, tmp_path: Path) -> None:
    outside = outside_of_copies(changed)
    blob = run(changed.root, "git", "rev-parse", ":./staged.txt").strip()
    objects = Path(run(changed.root, "git", "rev-parse", "--path-format=absolute", "--git-path", "objects").strip())
    (objects / blob[:2] / blob[2:]).unlink()
    with pytest.raises(DataError, match=rf"git write-tree failed: error: .*{blob}.*staged\.txt.*; fatal: "):
        copy_workspace(changed, tmp_path / "0", outside)


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
