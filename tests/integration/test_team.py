"""The commands of docs/team.md, as people type them: a colleague clones, two work at once, one goes back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.base.project import Project
from pipeline.tools.repository.merge_drivers import setup_lines
from pipeline.tools.status.stale_stages import chain_state
from pipeline.tools.status.status import status
from tests.support.team_project import ROOT, commit, git, name_person, run_line, team_project, typed

PAGE = (ROOT / "docs" / "team.md").read_text(encoding="utf-8")


def commands_of(heading: str) -> list[list[str]]:
    """The blocks of commands below a heading of the page, as lines."""
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    blocks: list[list[str]] = [[]]
    for line in section.splitlines():
        if line.startswith("    "):
            blocks[-1].append(line.strip())
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def placed(lines: list[str], base: Path) -> list[str]:
    """The lines with the places of the page below `base`."""
    places = {
        "/srv/recordings": str(base / "store"),  # copies of `base` share it: what lies there never changes
        "ssh://git.example/materials": "origin.git",
        "~/film": str(base / "film"),
    }
    for place, here in places.items():
        lines = [line.replace(place, here) for line in lines]
    return lines


def film(base: Path, name: str) -> Path:
    path = base / "film" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"clip {name}", encoding="utf-8")
    return path


def add_clip(base: Path, folder: Path, name: str, label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(folder, [f"pipe add {film(base, name)} --label {label}"], monkeypatch)


@pytest.fixture(scope="module")
def _shared_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Ann's project after the section "Share", the repository that she pushed to, and DVC's remote."""
    base = tmp_path_factory.mktemp("team")
    ann = team_project(base / "ann")
    git(base, "init", "--quiet", "--bare", "--initial-branch", "main", "origin.git")
    git(ann.root, "remote", "add", "origin", "../origin.git")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, label in (("a.mp4", "flake"), ("b.mp4", "sphere"), ("c.mp4", "flake")):
            add_clip(base, ann.root, name, label, monkeypatch)
        typed(ann.root, ["dvc repro", "git add --all", "git commit --quiet --message three"], monkeypatch)
        git(ann.root, "push", "--quiet", "--set-upstream", "origin", "main")
        for block in commands_of("Share"):
            typed(ann.root, placed(block, base), monkeypatch)
    return base


@pytest.fixture(scope="module")
def _with_clone(_shared_work: Path) -> Path:
    """The same with the clone of a colleague, Bob, after all commands of his section."""
    (block,) = commands_of("A colleague joins")
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = typed(_shared_work, placed(block, _shared_work), monkeypatch)
    git(folder, "remote", "set-url", "origin", "../origin.git")  # so that every copy has an origin of its own
    name_person(folder)
    return _shared_work


@pytest.fixture
def base(_with_clone: Path, tmp_path: Path) -> Path:
    return shutil.copytree(_with_clone, tmp_path / "team", symlinks=True)


@pytest.fixture
def bob(base: Path) -> Project:
    return Project(base / "materials")


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def model(project: Project) -> str:
    return project.checkpoint.read_text(encoding="utf-8")


THREE = {"flake/a.mp4", "flake/c.mp4", "sphere/b.mp4"}


def test_a_colleague_has_recordings_frames_and_model_and_nothing_left_to_run(bob: Project, base: Path) -> None:
    assert names(bob.raw) == names(bob.frames) == THREE
    assert model(bob) == model(Project(base / "ann"))
    assert chain_state(bob).to_run == ()
    assert git(bob.root, "status", "--porcelain") == ""
    bob.checkpoint.unlink()
    assert [stage.name for stage in chain_state(bob).to_run] == ["train"]  # the control: it is not blind


def test_a_clone_without_the_pull_is_told_to_pull_and_stops(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(base, "clone", "--quiet", "origin.git", "eve")
    eve = Project(base / "eve")
    assert status(eve, "class").next_command == "dvc pull"
    assert run_line(eve.root, ["dvc", "repro"], monkeypatch) != 0
    assert git(eve.root, "status", "--porcelain") == ""  # data/raw.dvc still names the recordings


def test_missing_recordings_stop_dvc_before_it_deletes_anything(bob: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name for name in names(bob.root) if not name.startswith((".dvc/tmp", "data/raw/"))}
    shutil.rmtree(bob.raw)
    assert run_line(bob.root, ["dvc", "repro"], monkeypatch) != 0
    assert before <= names(bob.root)
    assert status(bob, "class").next_command == "dvc pull"
    typed(bob.root, ["dvc pull"], monkeypatch)
    assert names(bob.raw) == THREE


def test_an_emptied_folder_loses_nothing_and_the_way_back_is_named(
    bob: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {
        name: (bob.root / name).read_bytes() for name in names(bob.root) if name.startswith(("data/f", "reports"))
    }
    shutil.rmtree(bob.raw)
    bob.raw.mkdir()
    assert run_line(bob.root, ["dvc", "repro"], monkeypatch) != 0
    assert {name: (bob.root / name).read_bytes() for name in before} == before
    way_back = status(bob, "class").next_command
    assert way_back == "git checkout data/raw.dvc && dvc pull, which bring back the recordings of the last commit"
    typed(bob.root, way_back.split(",")[0].split(" && "), monkeypatch)
    assert names(bob.raw) == THREE
    assert git(bob.root, "status", "--porcelain") == ""


@pytest.mark.parametrize("persists", [True, False])
def test_frames_outlive_a_run_without_recordings_where_dvc_tracks_none(
    bob: Project, monkeypatch: pytest.MonkeyPatch, persists: bool
) -> None:
    bob.raw_dvc.unlink()
    shutil.rmtree(bob.raw)
    bob.raw.mkdir()  # as `make install` leaves it
    if not persists:  # the control: DVC deletes what does not persist
        text = (bob.root / "dvc.yaml").read_text(encoding="utf-8")
        (bob.root / "dvc.yaml").write_text(text.replace("persist: true", "persist: false"), encoding="utf-8")
    assert run_line(bob.root, ["dvc", "repro"], monkeypatch) != 0
    assert (names(bob.frames) if bob.frames.exists() else set()) == (THREE if persists else set())
    assert bob.frames_csv.exists() == persists


def test_two_people_add_clips_at_once_and_both_have_all(
    bob: Project, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drivers, share, merge = commands_of("Two people, one repository")
    assert drivers == list(setup_lines().values())
    assert status(bob, "class").lines[-2:] == tuple(f"            {line}" for line in drivers)
    ann = Project(base / "ann")
    film(base, "IMG_0500.MOV")
    typed(ann.root, placed(share, base), monkeypatch)
    add_clip(base, bob.root, "d.mp4", "sphere", monkeypatch)
    bob.groups_csv.write_text("source,group\ndata/raw/sphere/d.mp4,stone\n", encoding="utf-8")
    typed(bob.root, [*drivers, *placed(share, base)[1:-1]], monkeypatch)
    assert run_line(bob.root, ["git", "push"], monkeypatch) != 0  # Ann was faster
    typed(bob.root, placed(merge, base), monkeypatch)
    both = THREE | {"flake/IMG_0500.MOV", "sphere/d.mp4"}
    assert names(bob.raw) == names(bob.frames) == both
    assert all(f"clip {Path(name).name}" in model(bob) for name in both)
    assert chain_state(bob).to_run == ()
    assert not any(line.startswith("merging") for line in status(bob, "class").lines)
    assert git(bob.root, "status", "--porcelain") == ""
    typed(ann.root, [*drivers, "git pull --quiet", "dvc pull", "dvc repro"], monkeypatch)
    assert names(ann.raw) == names(ann.frames) == both
    assert model(ann) == model(bob)
    assert git(ann.root, "status", "--porcelain") == ""


def test_without_the_drivers_git_leaves_a_conflict(bob: Project, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, name in ((base / "ann", "IMG_0500.MOV"), (bob.root, "d.mp4")):
        add_clip(base, folder, name, "flake", monkeypatch)
        commit(folder, "one more")
    git(base / "ann", "push", "--quiet")
    git(bob.root, "fetch", "--quiet")
    assert run_line(bob.root, ["git", "merge", "--no-edit", "origin/main"], monkeypatch) != 0
    assert "<<<<<<<" in bob.raw_dvc.read_text(encoding="utf-8")


def test_an_earlier_version_comes_back_with_its_recordings_and_its_model(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = Project(base / "ann")
    named, back = commands_of("Go back to an earlier version")
    typed(ann.root, named, monkeypatch)
    shipped = model(ann)
    add_clip(base, ann.root, "e.mp4", "sphere", monkeypatch)
    typed(ann.root, ["pipe remove data/raw/flake/a.mp4", "dvc repro"], monkeypatch)
    commit(ann.root, "One more and one less")
    latest = model(ann)
    assert latest != shipped
    back = [line for line in back if not line.startswith("pipe predict")]  # these models are texts
    forward = back.index("git checkout main")
    typed(ann.root, back[:forward], monkeypatch)
    assert names(ann.frames) == THREE
    assert names(ann.raw) == THREE
    assert model(ann) == shipped
    typed(ann.root, back[forward:], monkeypatch)
    assert names(ann.raw) == {"flake/c.mp4", "sphere/b.mp4", "sphere/e.mp4"}
    assert names(ann.removed) == {"flake/a.mp4"}
    assert model(ann) == latest
    assert chain_state(ann).to_run == ()
