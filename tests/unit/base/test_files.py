"""Outputs appear whole or not at all, locks exclude, JSON is strict."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.base.errors import DataError, PipeError
from pipeline.base.files import (
    check_output,
    exclusive,
    exclusive_lock,
    read_json,
    replacing_file,
    replacing_folder,
    sha256_of,
    sweep_folder,
    sweep_stale,
    temporary_beside,
    write_json,
)
from pipeline.base.project import Project
from runtime.system.scratch import machine_digits


@pytest.fixture
def dead_process() -> int:
    """The id of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_whose_name_is_as_long_as_names_can_be_is_replaced_and_swept(tmp_path: Path) -> None:
    target = tmp_path / f"{'a' * 251}.txt"
    temporary_beside(target).write_text("of a run that was killed")
    with replacing_file(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_an_output_that_is_read_or_no_plain_file_is_refused(tmp_path: Path) -> None:
    photo, link, free = tmp_path / "photo.png", tmp_path / "link.csv", tmp_path / "free.csv"
    photo.write_bytes(b"a photo")
    link.symlink_to(photo)
    check_output(free, [photo])
    check_output(photo, [free, tmp_path / f"{'a' * 300}.png"])
    for path in (link, tmp_path, Path("/dev/full")):
        with pytest.raises(DataError, match="a link, a folder or a device"):
            check_output(path)
    with pytest.raises(DataError, match=r"photo\.png: is read by this command"):
        check_output(tmp_path / "." / "photo.png", [free, photo])


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "鳞片.csv"
    with replacing_file(target) as temporary:
        temporary.write_text("half")
        assert not target.exists()
        temporary.write_text("whole")
    assert target.read_text() == "whole"
    assert names_in(target.parent) == ["鳞片.csv"]


def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "a.csv"
    target.write_text("old")
    with contextlib.suppress(ZeroDivisionError), replacing_file(target) as temporary:
        temporary.write_text("half")
        temporary.write_text(str(1 / 0))
    assert target.read_text() == "old"
    assert names_in(tmp_path) == ["a.csv"]


def test_a_block_that_writes_nothing_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.csv"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), replacing_file(target):
        pass
    assert target.read_text() == "old"


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "frames"
    target.mkdir()
    (target / "old.jpg").write_text("old")
    with replacing_folder(target) as temporary:
        (temporary / "new.jpg").write_text("new")
        assert names_in(target) == ["old.jpg"]
    assert names_in(target) == ["new.jpg"]
    assert names_in(tmp_path) == ["frames"]


def test_a_run_stopped_while_it_removes_the_old_folder_leaves_the_whole_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "frames"
    target.mkdir()
    for name in "ab":
        (target / name).write_text("old")

    def stop_halfway(folder: Path, **_: object) -> None:
        if (folder / "a").exists():
            (folder / "a").unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", stop_halfway)
    with pytest.raises(KeyboardInterrupt), replacing_folder(target) as temporary:
        (temporary / "c").write_text("new")
    assert names_in(target) == ["c"]


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rename = tmp_path / "frames", Path.rename
    target.mkdir()
    (target / "a").write_text("old")

    def fail_for_the_new(path: Path, to: Path) -> Path:
        if to == target and "former" not in path.name:
            raise OSError(28, "No space left on device")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(PipeError), replacing_folder(target) as temporary:
        (temporary / "c").write_text("new")
    assert names_in(target) == ["a"]
    assert names_in(tmp_path) == ["frames"]


def test_a_failure_leaves_the_old_folder_and_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "frames"
    target.mkdir()
    (target / "old.jpg").write_text("old")
    with contextlib.suppress(ZeroDivisionError), replacing_folder(target) as temporary:
        (temporary / "new.jpg").write_text("new")
        (temporary / "next.jpg").write_text(str(1 / 0))
    assert names_in(target) == ["old.jpg"]
    assert names_in(tmp_path) == ["frames"]


def test_a_link_or_a_file_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "film").mkdir()
    (tmp_path / "film" / "clip.mp4").write_text("film")
    (tmp_path / "frames").symlink_to("film")
    (tmp_path / "sheet").write_text("text")
    for name, kind in (("frames", "a link"), ("sheet", "a file")):
        with pytest.raises(DataError, match=kind), replacing_folder(tmp_path / name):
            pytest.fail("the work has begun")
    assert names_in(tmp_path / "film") == ["clip.mp4"]
    assert names_in(tmp_path) == ["film", "frames", "sheet"]


def test_temporaries_of_a_killed_process_are_removed(tmp_path: Path, dead_process: int) -> None:
    (tmp_path / f".frames.{dead_process}.tmp").mkdir()
    (tmp_path / f".frames.{dead_process}.tmp" / "half.jpg").write_text("half")
    (tmp_path / f".a.csv.{dead_process}.tmp").write_text("half")
    with replacing_folder(tmp_path / "frames"):
        pass
    with replacing_file(tmp_path / "a.csv") as temporary:
        temporary.write_text("whole")
    assert names_in(tmp_path) == ["a.csv", "frames"]


def test_temporaries_of_a_running_process_stay(tmp_path: Path) -> None:
    running = tmp_path / f".frames.{os.getppid()}.tmp"
    running.mkdir()
    sweep_stale(tmp_path / "frames")
    assert running.is_dir()


def test_temporaries_of_a_dead_process_go_and_those_of_another_machine_stay(tmp_path: Path, dead_process: int) -> None:
    other = f".frames.{'0' * 8}-{dead_process}.tmp"
    for sweep in (lambda: sweep_stale(tmp_path / "frames"), lambda: sweep_folder(tmp_path)):
        for name in (other, f".frames.{machine_digits()}-{dead_process}.tmp", f".frames.{dead_process}.tmp"):
            (tmp_path / name).mkdir(exist_ok=True)
        sweep()
        assert names_in(tmp_path) == [other]


def test_only_the_targets_own_temporaries_are_removed(tmp_path: Path, dead_process: int) -> None:
    kept = [
        f".frames.csv.{dead_process}.tmp",
        f".x.{dead_process}.tmp",
        ".frames.notes.tmp",
        f"frames.{dead_process}.tmp",
        "other.tmp",
    ]
    for name in kept:
        (tmp_path / name).write_text("")
    (tmp_path / f".[x].{dead_process}.tmp").write_text("")
    sweep_stale(tmp_path / "[x]")
    sweep_stale(tmp_path / "*")
    assert names_in(tmp_path) == sorted(kept)


def test_sweeping_does_not_follow_a_link(tmp_path: Path, dead_process: int) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "film.mp4").write_text("film")
    (tmp_path / f".frames.{dead_process}.tmp").symlink_to(precious)
    sweep_stale(tmp_path / "frames")
    assert names_in(tmp_path) == ["precious"]
    assert names_in(precious) == ["film.mp4"]


def test_a_second_process_of_a_command_is_refused_and_other_commands_run(tmp_path: Path) -> None:
    project = Project(tmp_path)
    with exclusive_lock(project, "pipe extract"):
        with exclusive_lock(project, "pipe augment"):
            pass
        with (
            pytest.raises(DataError, match=r"another `pipe extract` is running here"),
            exclusive_lock(project, "pipe extract"),
        ):
            pytest.fail("both run")
    with exclusive_lock(project, "pipe extract"):
        pass


def test_a_killed_process_releases_its_lock(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from pipeline.base.files import exclusive_lock\n"
    code += "from pipeline.base.project import Project\n"
    code += "with exclusive_lock(Project(Path(sys.argv[1])), 'pipe extract'): print('in', flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "in\n"
        with pytest.raises(DataError, match="another"), exclusive_lock(Project(tmp_path), "pipe extract"):
            pytest.fail("both run")
        child.kill()
    with exclusive_lock(Project(tmp_path), "pipe extract"):
        pass


def test_a_stage_holds_the_lock_of_its_project_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @exclusive("pipe evaluate")
    def evaluate(seed: int, project: Project) -> int:
        with pytest.raises(DataError, match=r"another `pipe evaluate` is running here"):
            nested(seed, project=project)
        return seed

    @exclusive("pipe evaluate")
    def nested(seed: int, project: Project) -> int:
        return seed

    assert evaluate(3, Project(tmp_path)) == 3
    assert nested(4, Project(tmp_path)) == 4  # the lock was released
    monkeypatch.setenv("RANK", "1")
    with exclusive_lock(Project(tmp_path), "pipe evaluate"):
        assert nested(5, Project(tmp_path)) == 5  # the first process of its run holds the lock


def test_json_comes_back_as_it_went_in(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "a.json"
    write_json(path, {"b": 1, "a": ["鳞片", None, 0.5]})
    assert path.read_text(encoding="utf-8") == ('{\n  "b": 1,\n  "a": [\n    "鳞片",\n    null,\n    0.5\n  ]\n}\n')
    assert read_json(path) == {"b": 1, "a": ["鳞片", None, 0.5]}


def test_nan_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"x": math.nan})
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("text", ["{", "", '{"x": NaN}', '{"x": Infinity}', '{"x": -Infinity}', "\ufeff{}"])
def test_what_is_not_json_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="not valid JSON") as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_not_text_are_not_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not valid JSON"):
        read_json(path)


def test_a_missing_report_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"split\.json: missing; run `pipe split`"):
        read_json(tmp_path / "reports" / "split.json")


def test_a_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    data = bytes(range(256)) * 5000
    path.write_bytes(data)
    assert sha256_of(path) == hashlib.sha256(data).hexdigest()
