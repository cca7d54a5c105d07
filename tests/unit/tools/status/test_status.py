"""`pipe status` says what is there, what is stale and why, and the next command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.base.files import write_json
from pipeline.base.project import Project
from pipeline.tools.adding.add import add_and_track
from pipeline.tools.corrections.relabel import relabel
from pipeline.tools.status.status import ProjectStatus, status
from tests.support.command import run_pipe
from tests.support.small_project import set_params
from tests.support.team_project import commit, git, team_project, typed


def clip(project: Project, name: str, label: str) -> None:
    path = project.root.parent / name
    path.write_text(f"clip {name}", encoding="utf-8")
    add_and_track([path], label, project)


@pytest.fixture(scope="module")
def _ran(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = team_project(tmp_path_factory.mktemp("ran") / "project")
    for name, label in (("a.mp4", "flake"), ("b.mp4", "sphere"), ("c.jpg", "flake")):
        clip(project, name, label)
    with pytest.MonkeyPatch.context() as monkeypatch:
        typed(project.root, ["dvc repro"], monkeypatch)
    commit(project.root, "ran")
    return project


@pytest.fixture
def ran(_ran: Project, tmp_path: Path) -> Project:
    """A project of two classes whose stages have run, committed."""
    return Project(shutil.copytree(_ran.root, tmp_path / "project"))


def text(report: ProjectStatus) -> str:
    return "\n".join([*report.lines, report.headline, report.next_command])


def test_a_new_project_says_that_all_is_yet_to_be_done(tmp_path: Path) -> None:
    project = team_project(tmp_path / "project")
    report = status(project, "class")
    assert report.lines[0] == "recordings  none in data/raw"
    assert "to run      never run yet: extract, train" in report.lines
    assert "last model  none" in report.lines
    assert report.next_command == "pipe add VIDEO --label CLASS"
    clip(project, "a.mp4", "flake")
    assert status(project, "class").next_command == "pipe add VIDEO --label CLASS, for a second class"
    clip(project, "b.mp4", "sphere")
    assert status(project, "class").next_command == "dvc repro"


def test_a_finished_project_counts_what_it_holds_and_names_its_model(ran: Project) -> None:
    write_json(ran.train_reports / "provenance.json", {"params": {"model": {"arch": "resnet18"}}})
    write_json(ran.evaluate_json, {"as_device": {"n_clips": 14, "right": 12, "wrong": 1, "refused": 1}})
    ran.cache.mkdir()
    (ran.cache / "x").write_bytes(bytes(3_400_000))
    report = status(ran, "class")
    assert report.lines[0] == "recordings  3 in 2 classes: flake 1 clip and 1 photo, sphere 1 clip"
    (model,) = (line for line in report.lines if line.startswith("last model"))
    assert "resnet18 in models/checkpoint.pt, of 2" in model
    assert model.endswith("; 12 of 14 clips right, 1 wrong, 1 refused")
    (disk,) = (line for line in report.lines if line.startswith("disk"))
    assert "recordings 30 bytes" in disk
    assert "caches in .cache 3.4 MB" in disk
    assert "DVC's cache" in disk
    git(ran.root, "checkout", "--quiet", ".")
    (ran.train_reports / "provenance.json").unlink()
    ran.evaluate_json.unlink()
    finished = status(ran, "class")
    assert finished.headline == "nothing to run"
    assert finished.next_command == "pipe predict PATHS, or unpack dist/bundle.zip on the device"


def test_the_reason_of_each_stale_stage_is_named(ran: Project) -> None:
    set_params(ran, extract={"frames_per_second": 2.5, "jpeg_quality": 60}, train={"lr": 0.5})
    (ran.root / "train.py").write_text((ran.root / "train.py").read_text() + "\n", encoding="utf-8")
    clip(ran, "d.mp4", "sphere")
    report = status(ran, "class")
    assert report.lines[1] == (
        "to run      extract: data/raw has changed, extract.frames_per_second in params.yaml has changed, "
        "extract.jpeg_quality in params.yaml has changed"
    )
    assert "            train: train.py has changed, train.lr in params.yaml has changed" in report.lines
    assert (report.headline, report.next_command) == ("2 stages to run", "dvc repro")


def test_later_stages_are_said_to_run_only_where_their_inputs_change(ran: Project) -> None:
    clip(ran, "d.mp4", "sphere")
    report = status(ran, "class")
    assert "to run      extract: data/raw has changed" in report.lines
    assert "            after them, where their inputs change: train" in report.lines
    assert report.headline == "2 stages to run"


def test_files_put_there_by_hand_are_said_to_be_taken_over(ran: Project) -> None:
    (ran.raw / "sphere" / "hand.mp4").write_text("by hand", encoding="utf-8")
    report = status(ran, "class")
    assert report.lines[1] == "            data/raw.dvc does not name 1 file yet; `dvc repro` does it"


def test_recordings_that_are_missing_are_counted_and_brought_back(
    ran: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ran.raw / "flake" / "a.mp4").unlink()
    report = status(ran, "class")
    assert report.lines[1] == "            data/raw.dvc names 1 recording that is not here"
    assert report.next_command == "dvc checkout data/raw.dvc"
    typed(ran.root, [report.next_command], monkeypatch)
    assert status(ran, "class").headline == "nothing to run"


def test_a_folder_behind_a_link_is_named(ran: Project) -> None:
    disk = ran.root.parent / "disk"
    disk.mkdir()
    (disk / "d.mp4").write_text("clip d.mp4", encoding="utf-8")
    (ran.raw / "flake" / "deep").symlink_to(disk)
    line = "            data/raw/flake/deep: a link, and DVC tracks nothing behind a link; make it a folder"
    assert line in status(ran, "class").lines
    (ran.raw / "flake" / "deep").unlink()
    assert line not in status(ran, "class").lines


def test_recordings_of_an_earlier_commit_are_brought_forward_and_not_taken_over(
    ran: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    relabel([Path("data/raw/flake/a.mp4")], "sphere", ran, "class")
    commit(ran.root, "a colleague's correction")
    (ran.raw / "sphere" / "a.mp4").rename(ran.raw / "flake" / "a.mp4")  # as after `git pull` alone
    report = status(ran, "class")
    assert (
        report.lines[1].strip().startswith("data/raw has the recordings of an earlier commit; `dvc repro` would take")
    )
    assert report.next_command == "dvc checkout data/raw.dvc"
    typed(ran.root, [report.next_command], monkeypatch)
    assert (ran.raw / "sphere" / "a.mp4").is_file()
    assert status(ran, "class").next_command == "dvc repro"


@pytest.mark.parametrize(
    ("changes", "is_told"),
    [
        ({}, True),
        ({"pins": {"pinned": 3, "new": 0, "gone": 0}}, False),
        ({"asked": {"keep": False, "folds": None, "hold_out": None}}, False),
        ({"asked": {"keep": True, "folds": 3, "hold_out": None}}, False),
        ({"asked": {"keep": True, "folds": None, "hold_out": {"session": "rainy day"}}}, False),
        ({"protocol": "random"}, False),
    ],
)
def test_a_split_that_an_experiment_dealt_is_named(ran: Project, changes: dict[str, object], is_told: bool) -> None:
    of_experiment = {
        "protocol": "grouped",
        "asked": {"keep": True, "folds": None, "hold_out": None},
        "pins": {"pinned": 0, "new": 3, "gone": 0},
    }
    write_json(ran.split_json, of_experiment | changes)
    line = (
        "split       an experiment dealt it, without data/split.keep.csv; before you keep it: `dvc repro --force "
        "--single-item split`, then `dvc repro`"
    )
    assert (line in status(ran, "class").lines) == is_told


def test_outputs_that_lie_in_dvcs_cache_are_fetched_and_not_made_again(
    ran: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran.checkpoint.unlink()
    report = status(ran, "class")
    assert "to run      train: models/checkpoint.pt is missing" in report.lines
    assert report.next_command == "dvc checkout, which brings back what DVC's cache has"
    typed(ran.root, ["dvc checkout"], monkeypatch)
    assert status(ran, "class").headline == "nothing to run"
    shutil.rmtree(ran.dvc_cache / "files")
    assert status(ran, "class").next_command == "dvc checkout data/raw.dvc"  # no remote could have them


def test_reports_that_lie_in_git_are_fetched_from_there(ran: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (ran.root / "reports" / "extract.json").unlink()
    shutil.rmtree(ran.train_reports)
    ran.checkpoint.unlink()  # DVC has it
    report = status(ran, "class")
    assert report.next_command == "git checkout -- reports/extract.json reports/train"
    typed(ran.root, [report.next_command], monkeypatch)
    report = status(ran, "class")
    assert report.next_command == "dvc checkout, which brings back what DVC's cache has"
    typed(ran.root, ["dvc checkout"], monkeypatch)
    assert status(ran, "class").headline == "nothing to run"
    shutil.rmtree(ran.train_reports)
    git(ran.root, "rm", "--quiet", "-r", "--cached", "reports/train")  # git has it no more
    assert status(ran, "class").next_command == "dvc repro"


def test_recordings_that_nobody_tracks_are_named(ran: Project) -> None:
    ran.raw_dvc.unlink()
    assert status(ran, "class").lines[1] == (
        "            DVC does not track them, so no colleague and no older version has them; `dvc add data/raw`"
    )


def test_an_uncommitted_version_is_named(ran: Project) -> None:
    (ran.root / "notes.txt").touch()
    assert status(ran, "class").next_command.startswith("git add --all && git commit")


def test_without_dvc_the_rest_is_still_said(ran: Project) -> None:
    shutil.rmtree(ran.root / ".dvc")
    report = status(ran, "class")
    assert any(line.startswith("to run      not known: ") and "DVC is not set up here" in line for line in report.lines)
    assert report.headline == "what is stale is not known"


def test_the_command_prints_it(ran: Project) -> None:
    before = git(ran.root, "status", "--porcelain")
    finished = run_pipe(ran.root, "status")  # in a process of its own: DVC may print, and must not
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    assert finished.stdout.startswith("recordings  3 in 2 classes")
    assert finished.stdout.endswith(
        "nothing to run; next: pipe predict PATHS, or unpack dist/bundle.zip on the device\n"
    )
    assert git(ran.root, "status", "--porcelain") == before
