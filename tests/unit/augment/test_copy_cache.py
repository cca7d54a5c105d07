"""The cache of copies: old frames are not decoded again, and the outputs are those of a run without it."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.augment import copy_cache as cache_module
from pipeline.augment import stage as module
from pipeline.augment.copy_cache import open_copy_cache
from pipeline.augment.params import AugmentParams
from pipeline.augment.stage import augment
from pipeline.base import manifest
from pipeline.base.files import sha256_of, temporary_beside
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.base.section import read_section
from tests.support.code_copy import copy_of_the_code
from tests.unit.augment.test_stage import everything_in, make_frame


@pytest.fixture
def params(project: Project) -> AugmentParams:
    return read_section(project.params_yaml, "augment", AugmentParams)


class Run:
    """Runs `augment` on the first so many frames, and lists the frames that it decoded."""

    def __init__(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        frames = [make_frame(project, f"a/clip/{number:06}.jpg", number) for number in range(4)]
        self.frames = [replace(frame, sha256=sha256_of(project.root / frame.path)) for frame in frames]
        self.project, self.decoded = project, list[str]()
        really = module.read_frame_bgr

        def read(project: Project, row: Row) -> object:
            self.decoded.append(Path(row.path).stem[-1])
            return really(project, row)

        monkeypatch.setattr(module, "read_frame_bgr", read)

    def __call__(self, params: AugmentParams, n_frames: int = 4) -> list[str]:
        self.decoded.clear()
        manifest.write(self.frames[:n_frames], self.project.frames_csv)
        augment(params, self.project)
        return sorted(self.decoded)

    @property
    def cached(self) -> list[Path]:
        return sorted((self.project.cache / "copies").iterdir())


@pytest.fixture
def run(project: Project, monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(project, monkeypatch)


def test_only_new_frames_are_decoded_and_the_outputs_are_those_of_a_run_without_a_cache(
    run: Run, params: AugmentParams
) -> None:
    assert run(params, 2) == ["0", "1"]
    shutil.rmtree(run.project.augmented)  # as DVC does before a stage
    assert run(params) == ["2", "3"]
    grown = everything_in(run.project)
    assert run(params) == []
    assert everything_in(run.project) == grown
    shutil.rmtree(run.project.cache)
    assert run(params) == ["0", "1", "2", "3"]
    assert everything_in(run.project) == grown


def test_a_copy_takes_no_more_disk_for_being_cached(run: Run, params: AugmentParams) -> None:
    run(params)
    files = {path.stat().st_ino for path in run.project.augmented.rglob("*.jpg")}
    assert {path.stat().st_ino for path in run.cached} == files
    assert len(files) == 16


def test_another_entry_costs_its_own_copies_alone(
    run: Run, params: AugmentParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(params)
    made, really = list[str](), module.make_copy

    def make(copy: object, *arguments: object) -> object:
        made.append(copy.name)  # type: ignore[attr-defined]
        return really(copy, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "make_copy", make)
    turn = params.copies[0].model_copy(update={"name": "rotate_180"})
    run(params.model_copy(update={"copies": (*params.copies, turn)}))
    assert made == ["rotate_180"] * 4


@pytest.mark.parametrize("changed", [{"seed": 1}, {"jpeg_quality": 70}])
def test_other_params_make_copies_anew(run: Run, params: AugmentParams, changed: dict[str, int]) -> None:
    run(params)
    assert len(run(params.model_copy(update=changed))) == 4
    assert run(params) == []


def test_a_frame_with_other_bytes_gets_copies_anew(run: Run, params: AugmentParams) -> None:
    run(params)
    make_frame(run.project, "a/clip/000001.jpg", 77)
    run.frames[1] = replace(run.frames[1], sha256=sha256_of(run.project.root / run.frames[1].path))
    assert run(params) == ["1"]


def test_changed_code_makes_copies_anew(
    run: Run, params: AugmentParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(params)
    code = copy_of_the_code(tmp_path / "code", monkeypatch)
    (code / "augment" / "transforms.py").write_text("# a bug was fixed here")
    assert len(run(params)) == 4
    (code / "split" / "stage.py").write_text("# this makes no copies")
    assert run(params) == []


def _edit_in_place(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def _link_elsewhere(path: Path) -> None:
    elsewhere = path.parents[2] / "elsewhere.jpg"
    shutil.copy(path, elsewhere)
    path.unlink()
    path.symlink_to(elsewhere)


def _make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [_edit_in_place, _link_elsewhere, _make_folder, Path.unlink])
def test_a_copy_that_is_not_as_it_was_written_is_made_again(run: Run, params: AugmentParams, spoil: object) -> None:
    run(params)
    before = everything_in(run.project)
    spoil(run.cached[5])  # type: ignore[operator]
    assert len(run(params)) == 1
    assert everything_in(run.project) == before
    assert all(path.is_file() and not path.is_symlink() for path in run.project.augmented.rglob("*.jpg"))
    assert run(params) == []


def test_where_links_are_refused_copies_are_copied(
    run: Run, params: AugmentParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    run(params)
    before = everything_in(run.project)
    assert run(params) == []
    assert everything_in(run.project) == before


def test_two_runs_may_store_a_copy_at_once(run: Run, params: AugmentParams, monkeypatch: pytest.MonkeyPatch) -> None:
    run(params, 1)
    stored = run.cached[0]
    copies = open_copy_cache(stored.parent)
    copy = copies.copy_named(stored.name)
    assert copy is not None
    mine = replace(copy, file=Path(shutil.copy(stored, run.project.root / "mine.jpg")))
    really = cache_module.link_or_copy

    def link_after_another_run(source: Path, target: Path) -> None:
        stored.unlink(missing_ok=True)
        shutil.copy(source, stored)
        really(source, target)

    monkeypatch.setattr(cache_module, "link_or_copy", link_after_another_run)
    copies.store(stored.name[:64], mine)
    assert stored.samefile(mine.file)
    assert [path.name for path in stored.parent.glob(".*")] == []
    copies.store(stored.name[:64], mine)  # a second link to the same file
    assert [path.name for path in stored.parent.glob(".*")] == []


def test_a_copy_that_cannot_be_stored_leaves_nothing_and_what_a_killed_run_left_is_in_nobodys_way(
    run: Run, params: AugmentParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = open_copy_cache(run.project.cache / "copies")
    file = run.project.root / "copy.jpg"
    file.write_bytes(b"a copy")
    made = cache_module.MadeCopy(file, sha256_of(file), 4, 4)
    with monkeypatch.context() as planted:
        planted.setattr(Path, "replace", raise_planted)
        with pytest.raises(OSError, match="planted"):
            cache.store("0" * 64, made)
    assert list(cache.folder.iterdir()) == []
    left = temporary_beside(cache.folder / f"{'0' * 64}.{made.sha256}.4x4.jpg")
    left.write_bytes(b"half")
    open_copy_cache(cache.folder).store("0" * 64, made)
    (stored,) = cache.folder.iterdir()
    assert stored.read_bytes() == b"a copy"


def raise_planted(*_: object) -> None:
    raise OSError("planted")


def test_a_frame_without_a_digest_is_not_cached(run: Run, params: AugmentParams) -> None:
    run.frames = [replace(frame, sha256="") for frame in run.frames]
    for _ in range(2):
        assert len(run(params)) == 4
    assert run.cached == []


def test_work_of_a_lost_worker_is_done_again(run: Run, params: AugmentParams) -> None:
    run(params)
    before = everything_in(run.project)
    copying = module._Copying(params, run.project, run.project.augmented, open_copy_cache(run.project.cache / "copies"))
    parents = module._with_cached(run.frames, copying)
    assert all(name for parent in parents for name in parent.cached)
    for parent in parents:  # their copies are there already
        module._copy_frame(copying, parent)
    assert everything_in(run.project) == before
    assert all(path.stat().st_nlink == 2 for path in run.cached)
