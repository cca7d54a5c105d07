"""`pipe clean` deletes what nothing needs, says how much, and leaves everything that a commit needs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.base.errors import DataError
from pipeline.base.files import exclusive_lock
from pipeline.base.manifest import Row, read, write, write_split
from pipeline.base.project import Project
from pipeline.base.storage.record_store import RecordStore
from pipeline.extract.stage import extract
from pipeline.tools.adding.add import add_and_track
from pipeline.tools.clean.clean import CleanReport, clean
from tests.support.extraction import extract_params
from tests.support.media import write_raw
from tests.support.team_project import commit, git, run_line, team_project, typed


@pytest.fixture(scope="module")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = team_project(tmp_path_factory.mktemp("shared") / "project")
    add(project, "a.mp4", "committed")
    with pytest.MonkeyPatch.context() as monkeypatch:
        typed(project.root, ["dvc repro"], monkeypatch)
        commit(project.root, "one")
        add(project, "b.mp4", "stashed")
        git(project.root, "stash", "--quiet")
        typed(project.root, ["dvc checkout"], monkeypatch)
    add(project, "c.mp4", "never committed")
    return project


@pytest.fixture
def shared(_shared: Project, tmp_path: Path) -> Project:
    """A project with three versions: one in a commit, one in a stash, and one that only the working folder has."""
    return Project(shutil.copytree(_shared.root, tmp_path / "project"))


def add(project: Project, name: str, content: str) -> None:
    path = project.root.parent / name
    path.write_text(content, encoding="utf-8")
    add_and_track([path], "flake", project)


def in_cache(project: Project) -> set[str]:
    """The contents of the files of DVC's cache that hold a recording."""
    texts = [path.read_text() for path in (project.dvc_cache / "files").rglob("*") if path.is_file()]
    return {text for text in texts if text in ("committed", "stashed", "never committed", "nobody's")}


def test_what_a_commit_a_stash_or_the_working_folder_needs_stays(
    shared: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = in_cache(shared)
    assert before == {"committed", "stashed", "never committed"}
    clean(shared, dry_run=False)
    assert in_cache(shared) == before
    (shared.raw / "flake" / "c.mp4").unlink()
    typed(shared.root, ["dvc add data/raw"], monkeypatch)  # now nothing needs it
    planned = clean(shared, dry_run=True)
    assert in_cache(shared) == before
    assert any(line.startswith("DVC's cache: ") and "which" not in line for line in planned.lines)
    report = clean(shared, dry_run=False)
    assert in_cache(shared) == {"committed", "stashed"}
    assert report.waste == planned.waste
    assert planned.headline == report.headline.replace("deleted", "would be deleted; nothing is yet")
    git(shared.root, "stash", "drop", "--quiet")
    clean(shared, dry_run=False)
    assert in_cache(shared) == {"committed"}
    assert clean(shared, dry_run=False).headline == "nothing to delete"


def test_what_an_experiment_needs_stays(shared: Project) -> None:
    head = git(shared.root, "rev-parse", "HEAD").strip()
    git(shared.root, "stash", "drop", "--quiet")
    commit(shared.root, "an experiment")
    git(shared.root, "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/exp-1", "HEAD")
    git(shared.root, "reset", "--quiet", "--hard", head)
    shutil.rmtree(shared.raw)
    clean(shared, dry_run=False)
    assert in_cache(shared) == {"committed", "never committed"}
    git(shared.root, "update-ref", "-d", f"refs/exps/{head[:2]}/{head[2:]}/exp-1")
    clean(shared, dry_run=False)
    assert in_cache(shared) == {"committed"}


def test_what_a_queued_experiment_needs_stays(shared: Project) -> None:
    head, queued = (git(shared.root, "rev-parse", name).strip() for name in ("HEAD", "stash@{0}"))
    git(shared.root, "stash", "drop", "--quiet")
    ref = "refs/exps/celery/stash"
    git(shared.root, "update-ref", "--create-reflog", "-m", f"commit: dvc-exp:{head}:{head}:queued", ref, queued)
    clean(shared, dry_run=False)
    assert "stashed" in in_cache(shared)
    git(shared.root, "update-ref", "-d", ref)
    clean(shared, dry_run=False)
    assert "stashed" not in in_cache(shared)


@pytest.mark.parametrize("queue", ["celery.LocalCeleryQueue", "tempdir.TempDirQueue"])
def test_nothing_is_deleted_while_an_experiment_runs_elsewhere(
    shared: Project, monkeypatch: pytest.MonkeyPatch, queue: str
) -> None:
    (shared.raw / "flake" / "c.mp4").unlink()
    typed(shared.root, ["dvc add data/raw"], monkeypatch)  # so there is something to delete
    with monkeypatch.context() as patch:
        entry = SimpleNamespace(stash_rev="12345678" * 5)
        patch.setattr(f"dvc.repo.experiments.queue.{queue}.iter_active", lambda _: iter([entry]))
        with pytest.raises(DataError, match=r"an experiment runs \(1234567\); wait until it has ended, or end it by"):
            clean(shared, dry_run=False)
    assert "never committed" in in_cache(shared)
    clean(shared, dry_run=False)
    assert "never committed" not in in_cache(shared)


def test_a_cache_outside_the_project_is_left_alone(
    shared: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(shared.dvc_cache, tmp_path / "common")
    foreign = tmp_path / "common" / "files" / "md5" / "12" / ("3" * 30)
    foreign.parent.mkdir(parents=True, exist_ok=True)
    foreign.write_text("nobody's", encoding="utf-8")
    typed(shared.root, [f"dvc cache dir {tmp_path / 'common'}"], monkeypatch)
    report = clean(shared, dry_run=False)
    assert foreign.exists()
    assert report.notes[0].startswith("DVC's cache is left alone: ")


@pytest.mark.parametrize("command", ["pipe train", "pipe study"])  # rows in copies hold no other lock here
def test_nothing_is_deleted_while_a_stage_or_a_study_runs(shared: Project, command: str) -> None:
    with (
        exclusive_lock(shared, command),
        pytest.raises(DataError, match=f"another `{command}` is running here"),
    ):
        clean(shared, dry_run=False)


@pytest.fixture
def extracted(tmp_path: Path) -> Project:
    project = team_project(tmp_path / "project")
    write_raw(project.raw, clips=2)
    extract(extract_params(), project)
    write([], project.augmented_csv)
    write_split([Row("data/frames/x.jpg", "a", "data/raw/a/x.mp4", "0" * 64, "g", split="train")], project.split_csv)
    return project


def age(paths: list[Path], seconds: float) -> None:
    for path in paths:
        if path.exists():
            before = path.stat().st_mtime - seconds
            os.utime(path, (before, before))


def entries(project: Project, kind: str) -> set[Path]:
    return {path for path in (project.cache / kind).iterdir() if path.is_dir()}


def deleted(project: Project) -> CleanReport:
    report = clean(project, dry_run=True)
    assert clean(project, dry_run=False).waste == report.waste
    return report


def test_clips_that_the_manifest_lists_stay_and_those_of_other_params_go(extracted: Project) -> None:
    of_other_params = entries(extracted, "clips")
    extract(extract_params(jpeg_quality=60), extracted)
    present = entries(extracted, "clips") - of_other_params
    assert len(present) == len(of_other_params) == 4
    age(list((extracted.cache / "clips").rglob("*")), 1000)
    (waste,) = deleted(extracted).waste
    assert set(waste.paths) == of_other_params
    assert waste.line.startswith(".cache/clips: 4 entries, ")
    assert waste.n_bytes > 1000
    assert entries(extracted, "clips") == present


def test_clips_that_a_stopped_run_has_decoded_since_stay(extracted: Project) -> None:
    write([replace(row, sha256="0" * 64) for row in read(extracted.frames_csv)], extracted.frames_csv)
    age([extracted.frames_csv], 1000)
    assert deleted(extracted).waste == ()


def test_copies_that_the_manifest_lists_stay_and_others_go(extracted: Project) -> None:
    folder = extracted.cache / "copies"
    folder.mkdir()
    listed, other = (folder / f"{'1' * 64}.{digit * 64}.40x30.jpg" for digit in "23")
    for path in (listed, other):
        path.write_bytes(bytes(100))
    write(
        [Row("data/augmented/x.jpg", "a", "data/raw/a/x.mp4", "0" * 64, "g", sha256="2" * 64)], extracted.augmented_csv
    )
    age([listed, other], 1000)
    (waste,) = deleted(extracted).waste
    assert waste.paths == (other,)
    assert listed.exists()


def test_without_a_split_nothing_of_the_cache_goes(extracted: Project) -> None:
    age(list((extracted.cache / "clips").rglob("*")), 1000)
    extract(extract_params(jpeg_quality=60), extracted)
    extracted.split_csv.unlink()
    assert deleted(extracted).waste == ()


def test_records_that_a_run_has_read_since_the_split_stay_and_others_go(extracted: Project) -> None:
    store = RecordStore(extracted.cache / "features" / "settings", np.dtype("f4"))

    def fill(_: Sequence[int], empty: Sequence[NDArray[np.float32]]) -> None:
        for values in empty:
            values.fill(1)

    names = [digit * 64 for digit in "ab"]
    shards = []
    for name in names:
        store.read_or_make([name], [(2,)], fill)
        shards += sorted(set(store.folder.glob("*.records")) - set(shards))
    assert len(shards) == 2
    age([extracted.frames_csv, extracted.augmented_csv, extracted.split_csv], 500)
    age(list((extracted.cache / "features").rglob("*")), 1000)
    store.read_or_make(names[:1], [(2,)], fill)
    logs = [extracted.cache / tracker / "run" for tracker in ("tensorboard", "wandb")]
    for log in logs:
        log.mkdir(parents=True)
    age(logs, 1000)
    (waste,) = deleted(extracted).waste
    assert waste.line.startswith(".cache/features: 1 entry, ")
    assert list(store.folder.glob("*.records")) == shards[:1]
    assert all(log.is_dir() for log in logs)


def test_the_command_says_what_would_go_and_what_went(
    shared: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def printed(*options: str) -> str:
        assert run_line(shared.root, ["pipe", "clean", *options], monkeypatch) == 0
        output = capsys.readouterr()
        assert output.err == ""  # DVC warns of commits that have run nothing
        return output.out

    assert printed("--dry-run") == "nothing to delete; next: pipe status\n"
    stray = shared.dvc_cache / "files" / "md5" / "12" / ("3" * 30)
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(bytes(2000))
    assert printed("--dry-run") == (
        "DVC's cache: 1 entry, 2.0 kB: what no commit, experiment or stash needs\n"
        "2.0 kB would be deleted; nothing is yet; next: pipe clean\n"
    )
    assert stray.exists()
    assert printed().endswith("2.0 kB deleted; next: pipe status\n")
    assert not stray.exists()
