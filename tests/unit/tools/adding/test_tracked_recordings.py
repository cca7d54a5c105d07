"""DVC tracks the recordings: `data/raw.dvc` follows what is added and corrected, and nobody's own file is touched."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.tools.adding.add import AddReport, add_and_track
from pipeline.tools.adding.tracked_recordings import track
from pipeline.tools.corrections.relabel import relabel
from pipeline.tools.corrections.remove import remove
from pipeline.tools.corrections.rename import rename
from pipeline.tools.project.surroundings import linked_raw_problem
from pipeline.tools.repository.dvc_repository import open_dvc
from tests.support.team_project import commit, git, run_line, team_project


@pytest.fixture
def tracked(tmp_path: Path) -> Project:
    """A project in git and DVC without recordings."""
    return team_project(tmp_path / "project")


def clip(tmp_path: Path, name: str) -> Path:
    path = tmp_path / "film" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"clip {name}", encoding="utf-8")
    return path


def add_one(project: Project, name: str, label: str = "flake") -> AddReport:
    return add_and_track([clip(project.root.parent, name)], label, project)


def named(project: Project) -> set[str]:
    """The recordings that data/raw.dvc names, as DVC reads it."""
    with open_dvc(project) as repository:
        (stage,) = repository.stage.load_file(str(project.raw_dvc))
        tree = stage.outs[0].get_dir_cache()
    return {"/".join(parts) for parts in tree.as_dict()}


def state_of(project: Project) -> dict[str, bytes]:
    files = (path for path in project.root.rglob("*") if path.is_file())
    names = {path.relative_to(project.root).as_posix(): path for path in files}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith((".git/", ".dvc/tmp/"))}


def test_added_recordings_are_named_by_a_file_in_git_and_kept_once_more(tracked: Project, tmp_path: Path) -> None:
    report = add_one(tracked, "a.mp4")
    assert report.headline == "1 file added to data/raw/flake; DVC tracks them in data/raw.dvc"
    assert named(tracked) == {"flake/a.mp4"}
    assert b"clip a.mp4" in [path.read_bytes() for path in tracked.dvc_cache.rglob("*") if path.is_file()]
    assert git(tracked.root, "status", "--porcelain").splitlines() == ["?? data/raw.dvc"]
    add_one(tracked, "b.mp4", "sphere")
    assert named(tracked) == {"flake/a.mp4", "sphere/b.mp4"}


def test_a_class_may_have_the_name_of_a_folder_of_the_project(tracked: Project, tmp_path: Path) -> None:
    for label in ("build", "data", "reports"):
        add_one(tracked, f"{label}.mp4", label)
    assert named(tracked) == {"build/build.mp4", "data/data.mp4", "reports/reports.mp4"}


@pytest.mark.parametrize("link_types", ["reflink,copy", "hardlink,copy"])
def test_the_persons_own_file_stays_a_file_of_its_own(tracked: Project, tmp_path: Path, link_types: str) -> None:
    with (tracked.root / ".dvc" / "config").open("a", encoding="utf-8") as config:
        config.write(f"[cache]\n    type = {link_types}\n")
    own = clip(tmp_path, "a.mp4")
    own.chmod(0o640)
    before = own.stat()
    add_and_track([own], "flake", tracked)
    after = own.stat()
    assert (after.st_ino, after.st_nlink, after.st_mode, after.st_mtime_ns) == (
        before.st_ino, 1, before.st_mode, before.st_mtime_ns
    )  # fmt: skip
    in_project = (tracked.raw / "flake" / "a.mp4").stat()
    assert in_project.st_nlink == (2 if link_types.startswith("hardlink") else 1)  # the control: DVC does make links
    with own.open("a", encoding="utf-8") as file:  # an edit in place
        file.write("!")
    stored = [path for path in (*tracked.raw.rglob("*"), *tracked.dvc_cache.rglob("*")) if path.is_file()]
    assert [path for path in stored if b"!" in path.read_bytes()] == []


def test_an_error_of_dvcs_is_one_line_without_colours(tracked: Project) -> None:
    from dvc.exceptions import DvcException

    with pytest.raises(DataError) as caught, open_dvc(tracked):
        raise DvcException("no room\n\nsee \x1b[36mthe page\x1b[39m") from OSError("disk\nfull")
    assert str(caught.value) == f"{tracked.root}: DVC: no room see the page; disk full"


@pytest.mark.parametrize("can_share_blocks", [True, False])
def test_a_copy_shares_its_blocks_where_the_file_system_can(
    tracked: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_share_blocks: bool
) -> None:
    shared: list[Path] = []

    def reflink(source: str | Path, target: str | Path) -> None:
        if not can_share_blocks:
            raise OSError(95, "Operation not supported")
        shared.append(Path(source))
        Path(target).write_bytes(Path(source).read_bytes())

    monkeypatch.setattr("dvc_objects.fs.system.reflink", reflink)
    add_one(tracked, "a.mp4")
    assert (tmp_path / "film" / "a.mp4" in shared) == can_share_blocks
    assert (tracked.raw / "flake" / "a.mp4").read_text() == "clip a.mp4"


def test_what_is_corrected_is_named_anew_and_hidden_files_never_are(tracked: Project, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        add_one(tracked, name)
    (tracked.raw / "flake" / ".added.1.tmp").mkdir()  # as a killed command leaves it
    (tracked.raw / "flake" / ".added.1.tmp" / "half.mp4").touch()
    (tracked.raw / ".DS_Store").touch()
    assert relabel([Path("data/raw/flake/a.mp4")], "sphere", tracked, "class").headline == (
        "1 recording moved to class sphere, a new class; data/raw.dvc changed with them"
    )
    assert named(tracked) == {"flake/b.mp4", "flake/c.mp4", "sphere/a.mp4"}
    remove([Path("data/raw/flake/b.mp4")], tracked, "class")
    assert named(tracked) == {"flake/c.mp4", "sphere/a.mp4"}
    assert (tracked.removed / "flake" / "b.mp4").is_file()
    rename("sphere", "ball", tracked, "class")
    assert named(tracked) == {"flake/c.mp4", "ball/a.mp4"}


def test_removed_recordings_outlive_a_way_back_to_before_dvc_tracked_them(tracked: Project, tmp_path: Path) -> None:
    add_one(tracked, "a.mp4")
    add_one(tracked, "b.mp4")
    git(tracked.root, "add", "data/raw.dvc")
    git(tracked.root, "commit", "--quiet", "--message", "two")
    remove([Path("data/raw/flake/b.mp4")], tracked, "class")
    git(tracked.root, "commit", "--quiet", "--all", "--message", "one")
    git(tracked.root, "checkout", "--quiet", "HEAD~2")
    with open_dvc(tracked) as repository:
        repository.checkout(allow_missing=True)
    assert not tracked.raw.exists()
    assert (tracked.removed / "flake" / "b.mp4").is_file()


def test_a_project_without_dvc_is_told_before_anything_is_copied(
    tracked: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = clip(tmp_path, "a.mp4")
    shutil.rmtree(tracked.root / ".dvc")
    before = state_of(tracked)
    command = ["pipe", "add", str(own), "--label", "flake"]
    assert run_line(tracked.root, command, monkeypatch) == 1
    assert capsys.readouterr().err == (
        f"pipe: {tracked.root}: DVC is not set up here; expected a folder .dvc; run `git init`, then `dvc init`; "
        "or add with --no-dvc, so that data/raw alone holds the recordings\n"
    )
    assert state_of(tracked) == before
    assert run_line(tracked.root, [*command, "--no-dvc"], monkeypatch) == 0
    added = "1 file added to data/raw/flake; next: pipe extract, or dvc repro for the whole chain\n"
    assert capsys.readouterr().out == added


def test_a_project_without_git_is_told_before_anything_is_copied(tracked: Project, tmp_path: Path) -> None:
    shutil.rmtree(tracked.root / ".git")
    with pytest.raises(DataError, match=r"found no git repository; expected one.*; or add with --no-dvc"):
        add_one(tracked, "a.mp4")
    assert not tracked.raw.exists()


def test_no_single_recording_is_left_out_of_a_tracked_folder(tracked: Project, tmp_path: Path) -> None:
    add_one(tracked, "a.mp4")
    before = state_of(tracked)
    with pytest.raises(DataError, match=r"data/raw\.dvc: found; DVC tracks data/raw as a whole, so --no-dvc can"):
        add_and_track([clip(tmp_path, "b.mp4")], "flake", tracked, no_dvc=True)
    assert state_of(tracked) == before


def test_nobody_takes_recordings_away_that_were_not_pulled(tracked: Project, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        add_one(tracked, name)
    before = tracked.raw_dvc.read_bytes()
    shutil.rmtree(tracked.raw)
    expected = (
        "data/raw.dvc: found 2 recordings that are not in data/raw; run `dvc pull`, or `dvc add data/raw` to go on"
    )
    with pytest.raises(DataError, match=re.escape(expected)):
        add_one(tracked, "c.mp4")
    assert not tracked.raw.exists()
    (tracked.raw / "flake").mkdir(parents=True)
    shutil.copy(tmp_path / "film" / "a.mp4", tracked.raw / "flake" / "moved_by_hand.mp4")
    source = Path("data/raw/flake/moved_by_hand.mp4")
    with pytest.raises(DataError, match="found 1 recording that is not in data/raw"):
        relabel([source], "sphere", tracked, "class")
    shutil.rmtree(tracked.dvc_cache)  # as in a clone that has not even the list
    expected = "data/raw.dvc: found no list of its recordings in DVC's cache; run `dvc pull`, or `dvc add data/raw` if"
    with pytest.raises(DataError, match=re.escape(expected)):
        remove([source], tracked, "class")
    assert (tracked.root / source).is_file()
    assert tracked.raw_dvc.read_bytes() == before


@pytest.mark.parametrize("is_fetched", [True, False])
def test_a_colleagues_correction_is_not_taken_back(tracked: Project, tmp_path: Path, is_fetched: bool) -> None:
    add_one(tracked, "a.mp4")
    commit(tracked.root, "Bob's last version")
    before = shutil.copytree(tracked.raw, tmp_path / "before")
    list_before = set(tracked.dvc_cache.rglob("*.dir"))
    relabel([Path("data/raw/flake/a.mp4")], "sphere", tracked, "class")  # as many recordings as before
    commit(tracked.root, "Ann's correction")
    corrected = tracked.raw_dvc.read_bytes()
    shutil.rmtree(tracked.raw)
    shutil.copytree(before, tracked.raw)  # as Bob has it after `git pull`
    if is_fetched:
        expected = (
            "data/raw.dvc: found the recordings of an earlier commit in data/raw; run `dvc checkout data/raw.dvc`"
        )
    else:
        (list_now,) = set(tracked.dvc_cache.rglob("*.dir")) - list_before
        list_now.unlink()
        expected = "data/raw.dvc: found no list of its recordings in DVC's cache; run `dvc pull`"
    with pytest.raises(DataError, match=re.escape(expected)):
        add_one(tracked, "b.mp4")
    with pytest.raises(DataError, match=re.escape(expected)):
        relabel([Path("data/raw/flake/a.mp4")], "cube", tracked, "class")
    assert tracked.raw_dvc.read_bytes() == corrected
    assert not (tracked.raw / "flake" / "b.mp4").exists()
    track(tracked)  # the person decides for what is here
    assert add_one(tracked, "b.mp4").tracking == "tracked"


def test_what_was_moved_by_hand_is_here(tracked: Project, tmp_path: Path) -> None:
    add_one(tracked, "a.mp4")
    (tracked.raw / "flake").rename(tracked.raw / "sphere")
    add_one(tracked, "b.mp4")
    assert named(tracked) == {"sphere/a.mp4", "flake/b.mp4"}


def test_a_folder_that_was_never_tracked_stays_untracked_and_the_way_is_named(tracked: Project, tmp_path: Path) -> None:
    add_and_track([clip(tmp_path, "a.mp4")], "flake", tracked, no_dvc=True)
    report = add_one(tracked, "b.mp4")
    assert report.headline.endswith("which held recordings before: `dvc add data/raw` changes that")
    assert not tracked.raw_dvc.exists()
    track(tracked)
    assert add_one(tracked, "c.mp4").tracking == "tracked"
    assert named(tracked) == {"flake/a.mp4", "flake/b.mp4", "flake/c.mp4"}


@pytest.mark.parametrize("name", ["data/raw", "data"])
def test_recordings_behind_a_link_are_refused_in_the_doctors_words(tracked: Project, tmp_path: Path, name: str) -> None:
    (tmp_path / "disk").mkdir()
    folder = tracked.root / name
    if folder.is_dir():
        shutil.rmtree(folder)
    folder.symlink_to(tmp_path / "disk")
    with pytest.raises(DataError) as caught:
        add_one(tracked, "a.mp4")
    problem = linked_raw_problem(tracked)
    assert problem is not None
    assert problem.startswith(f"{folder}: a link to {tmp_path / 'disk'}; ")
    assert str(caught.value) == f"{problem}; or add with --no-dvc, so that data/raw alone holds the recordings"
    assert list((tmp_path / "disk").iterdir()) == []


def test_a_class_behind_a_link_is_refused_where_dvc_tracks(tracked: Project, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    tracked.raw.mkdir()
    (tracked.raw / "flake").symlink_to(tmp_path / "disk")
    with pytest.raises(DataError) as caught:
        add_one(tracked, "a.mp4")
    assert str(caught.value) == (
        f"data/raw/flake: a link to {tmp_path / 'disk'}, and DVC tracks nothing behind a link; make it a folder, or "
        "copy the recordings there yourself"
    )
    assert list((tmp_path / "disk").iterdir()) == []
    assert not tracked.raw_dvc.exists()
    add_and_track([clip(tmp_path, "a.mp4")], "flake", tracked, no_dvc=True)  # then nobody says that DVC has it
    assert (tmp_path / "disk" / "a.mp4").is_file()


def test_where_dvc_fails_the_recordings_stay_and_the_line_says_what_mends_it(
    tracked: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvc.repo import Repo

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Repo, "add", full)
        with pytest.raises(DataError) as caught:
            add_one(tracked, "a.mp4")
    assert str(caught.value).startswith("data/raw: the recordings are in place, but DVC did not track them: [Errno 28]")
    assert str(caught.value).endswith("run `dvc add data/raw`")
    assert (tracked.raw / "flake" / "a.mp4").is_file()
    track(tracked)
    assert named(tracked) == {"flake/a.mp4"}
