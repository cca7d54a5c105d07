"""Recordings are relabelled, removed, and their class renamed: their groups follow, and a kill leaves no half."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.base import files
from pipeline.base.errors import DataError, PipeError
from pipeline.base.files import exclusive_lock, write_json
from pipeline.base.leakage import read_split_without_leaks
from pipeline.base.manifest import read, write
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.cli.context import current_project
from pipeline.extract.stage import extract
from pipeline.split.params import SplitParams
from pipeline.split.stage import split
from pipeline.tools.adding.add import add
from pipeline.tools.corrections import change
from pipeline.tools.corrections.relabel import relabel
from pipeline.tools.corrections.remove import remove
from pipeline.tools.corrections.rename import rename
from tests.support.command import run_pipe
from tests.support.extraction import decoded_by, extract_params
from tests.support.media import write_photo, write_raw
from tests.support.small_project import without_search

NAMES = ("a/1.png", "a/deep/2.png", "b/3.png")
GROUPS = "source,group\ndata/raw/a/1.png,stone\ndata/raw/a/deep/2.png,data/raw/a/1.png\ndata/raw/b/3.png,'=1+1\n"
KEPT = "source_sha256,source,split,fold,dealt_by\naa,data/raw/a/1.png,test,0,ratio\nbb,data/raw/b/3.png,train,1,ratio\n"


@pytest.fixture
def filled(project: Project) -> Project:
    """Three photos of two classes, with groups and kept places."""
    for number, name in enumerate(NAMES):
        write_photo(project.raw / name, number)
    project.groups_csv.write_text(GROUPS)
    project.split_keep_csv.write_text(KEPT)
    return project


def content(project: Project) -> dict[str, bytes]:
    """Every file and every empty folder below data/, without temporaries, which the next command removes."""
    paths = [path for path in (project.root / "data").rglob("*") if path.is_file() or not any(path.iterdir())]
    names = {path.relative_to(project.root).as_posix(): path for path in paths}
    return {name: path.read_bytes() if path.is_file() else b"" for name, path in names.items() if ".tmp" not in name}


def raw_names(project: Project) -> set[str]:
    return {name.removeprefix("data/raw/") for name in content(project) if name.startswith("data/raw/")}


def refusal(project: Project, correct: Callable[[], object]) -> str:
    before = content(project)
    with pytest.raises(PipeError) as caught:
        correct()
    assert content(project) == before
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1
    return str(caught.value)


def test_a_relabelled_recording_takes_its_group_along(filled: Project) -> None:
    report = relabel([Path("data/raw/a/1.png"), filled.raw / "b" / "3.png"], "b", filled, "class")
    assert raw_names(filled) == {"b/1.png", "a/deep/2.png", "b/3.png"}
    assert filled.groups_csv.read_text() == (
        "source,group\ndata/raw/b/1.png,stone\ndata/raw/a/deep/2.png,data/raw/b/1.png\ndata/raw/b/3.png,'=1+1\n"
    )
    assert filled.split_keep_csv.read_text() == KEPT  # it knows recordings by their content
    assert report.headline == (
        "1 recording moved to class b (1 already had it); 2 lines of data/groups.csv changed with them"
    )


def test_a_new_class_and_a_class_without_recordings_are_named(filled: Project) -> None:
    filled.groups_csv.unlink()
    filled.split_keep_csv.unlink()
    report = relabel([Path("data/raw/b/3.png")], "c", filled, "class")
    assert report.headline == "1 recording moved to class c, a new class; class b has no recording left"
    assert raw_names(filled) == {"a/1.png", "a/deep/2.png", "c/3.png"}  # and no empty folder, which extract refuses
    assert not filled.groups_csv.exists()


def test_removed_recordings_lose_their_lines_and_keep_their_files(filled: Project) -> None:
    kept = (filled.raw / "a" / "1.png").read_bytes()
    report = remove([Path("data/raw/a/1.png")], filled, "class")
    assert (filled.removed / "a" / "1.png").read_bytes() == kept
    assert "data/raw/a/1.png,stone" not in filled.groups_csv.read_text()
    assert filled.split_keep_csv.read_text() == KEPT
    assert report.headline == (
        "1 recording removed; the files are in data/removed/, which you may delete; 1 line of data/groups.csv"
        " changed with them"
    )
    remove([Path("data/raw/a/deep/2.png")], filled, "class")
    assert "data/raw/a/" not in filled.groups_csv.read_text()
    assert raw_names(filled) == {"b/3.png"}
    assert {"data/removed/a/1.png", "data/removed/a/deep/2.png"} <= content(filled).keys()


def test_a_removed_recording_can_be_added_again(filled: Project) -> None:
    remove([Path("data/raw/b/3.png")], filled, "class")
    add([filled.removed / "b" / "3.png"], "b", filled)
    message = refusal(filled, lambda: remove([Path("data/raw/b/3.png")], filled, "class"))
    assert message == (
        "data/removed/b/3.png: is there from an earlier `pipe remove`; delete it, or rename data/raw/b/3.png"
    )
    (filled.removed / "b" / "3.png").unlink()
    remove([Path("data/raw/b/3.png")], filled, "class")
    assert "data/removed/b/3.png" in content(filled)


def test_behind_a_linked_folder_removed_recordings_stay_on_their_disk(filled: Project, tmp_path: Path) -> None:
    filled.raw.rename(tmp_path / "disk")
    filled.raw.symlink_to(tmp_path / "disk")
    report = remove([Path("data/raw/b/3.png")], filled, "class")
    assert report.folder == "data/raw/.removed"
    assert (tmp_path / "disk" / ".removed" / "b" / "3.png").is_file()
    assert not filled.removed.exists()


@pytest.fixture
def linked(filled: Project) -> Path:
    """A recording that is a link to DVC's cache, as with `cache.type symlink`: the file that it leads to."""
    cached = filled.dvc_cache / "files" / "md5" / "12" / ("3" * 30)
    cached.parent.mkdir(parents=True)
    (filled.raw / "b" / "3.png").rename(cached)
    cached.chmod(0o444)
    (filled.raw / "b" / "3.png").symlink_to(cached)
    return cached


def test_a_removed_recording_is_no_link_to_a_file_that_may_be_deleted(filled: Project, linked: Path) -> None:
    remove([Path("data/raw/b/3.png")], filled, "class")
    aside = filled.removed / "b" / "3.png"
    assert not aside.is_symlink()
    assert aside.read_bytes() == linked.read_bytes()
    assert aside.stat().st_nlink == 1
    assert raw_names(filled) == {"a/1.png", "a/deep/2.png"}


def test_a_removed_link_that_was_copied_before_a_kill_goes(filled: Project, linked: Path) -> None:
    aside = filled.removed / "b" / "3.png"
    aside.parent.mkdir(parents=True)
    filled.correction.mkdir()
    moves = {"moves": [["b/3.png", ".removed/b/3.png"]]}
    aside.write_text("another file")
    write_json(filled.correction / "moves.json", moves)
    assert refusal(filled, lambda: change.finish_change(filled)).startswith("data/removed/b/3.png: is there, but a")
    shutil.copyfile(linked, aside)
    change.finish_change(filled)
    assert raw_names(filled) == {"a/1.png", "a/deep/2.png"}
    assert aside.read_bytes() == linked.read_bytes()


def test_a_relabelled_link_stays_a_link(filled: Project, linked: Path) -> None:
    relabel([Path("data/raw/b/3.png")], "a", filled, "class")
    assert (filled.raw / "a" / "3.png").readlink() == linked


def test_a_line_that_becomes_equal_to_another_one_counts_and_is_written(project: Project) -> None:
    write_photo(project.raw / "flake" / "a.png", 1)
    write_photo(project.raw / "flake" / "b.png", 2)
    project.groups_csv.write_text("source,group\ndata/raw/flake/a.png,g1\ndata/raw/sph/a.png,g1\n")
    report = relabel([Path("data/raw/flake/a.png")], "sph", project, "class")
    assert report.followed.n_groups == 1
    assert project.groups_csv.read_text() == "source,group\ndata/raw/sph/a.png,g1\ndata/raw/sph/a.png,g1\n"


def test_a_renamed_class_takes_all_that_its_folder_holds_along(filled: Project) -> None:
    (filled.raw / "a" / "notes.txt").touch()
    report = rename("a", "鳞片", filled, "class")
    assert raw_names(filled) == {"鳞片/1.png", "鳞片/deep/2.png", "鳞片/notes.txt", "b/3.png"}
    assert filled.groups_csv.read_text() == GROUPS.replace("data/raw/a/", "data/raw/鳞片/")
    assert filled.split_keep_csv.read_text() == KEPT
    assert report.headline == ("class a is 鳞片 now (2 recordings); 2 lines of data/groups.csv changed with them")
    rename("b", "B", filled, "class")  # the same but for its case, and no other class is
    assert "B/3.png" in raw_names(filled)


def test_where_folders_name_the_splits_a_class_is_corrected_in_each(project: Project) -> None:
    for number, name in enumerate(("train/a/1.png", "train/b/2.png", "test/a/1.png")):
        write_photo(project.raw / name, number)
    relabel([Path("data/raw/train/b/2.png")], "a", project, "split")
    assert rename("a", "c", project, "split").n_recordings == 3
    assert raw_names(project) == {"train/c/1.png", "train/c/2.png", "test/c/1.png"}
    outside = refusal(project, lambda: relabel([Path("data/raw/c/1.png")], "a", project, "split"))
    assert outside.startswith("data/raw/c/1.png: outside the classes; expected a recording below data/raw/<split>/<cl")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("elsewhere.png", "outside the classes"),
        ("data/raw/../raw.png", "outside the classes"),
        ("data/raw/loose.png", "outside the classes"),
        ("data/raw/a/9.png", "no such recording"),
        ("data/raw/a", "a folder; expected recordings, such as data/raw/a/*"),
        ("data/raw/a/.hidden.png", "hidden by its name"),
        ("data/raw/linked/x.png", "lies behind the linked folder data/raw/linked"),
        ("data/raw/a/new\nline.png", "a control character"),
    ],
)
def test_what_is_no_recording_of_the_project_is_refused(filled: Project, source: str, expected: str) -> None:
    for name in ("elsewhere.png", "data/raw.png", "data/raw/loose.png", "data/raw/a/.hidden.png", "other/x.png"):
        write_photo(filled.root / name)
    (filled.raw / "linked").symlink_to(filled.root / "other")
    write_photo(filled.raw / "a" / "new\nline.png")
    named = [Path("data/raw/b/3.png"), Path(source)]
    assert expected in refusal(filled, lambda: relabel(named, "c", filled, "class"))
    assert expected in refusal(filled, lambda: remove(named, filled, "class"))


@pytest.mark.parametrize("label", ["", ".", "..", "x/y", ".hidden", " a", "@eaDir", "a\\b", "石" * 86])
def test_a_label_that_can_be_no_class_is_refused(filled: Project, label: str) -> None:
    message = refusal(filled, lambda: relabel([Path("data/raw/b/3.png")], label, filled, "class"))
    assert "--label" in message or "name" in message
    message = refusal(filled, lambda: rename("b", label, filled, "class"))
    assert "NEW" in message or "name" in message


@pytest.mark.parametrize("label", ["A", "ａ", "a\u200b"])
def test_a_label_that_reads_like_another_class_is_refused(filled: Project, label: str) -> None:
    for correct in (
        lambda: relabel([Path("data/raw/b/3.png")], label, filled, "class"),
        lambda: rename("b", label, filled, "class"),
    ):
        assert "differ only in case, width, blanks" in refusal(filled, correct)


def test_two_classes_that_read_alike_can_be_made_one(filled: Project) -> None:
    write_photo(filled.raw / "B" / "4.png", 4)
    relabel([Path("data/raw/B/4.png")], "b", filled, "class")
    assert raw_names(filled) == {*NAMES, "b/4.png"}


def test_an_unknown_class_and_a_name_that_a_class_has_are_refused(filled: Project) -> None:
    message = refusal(filled, lambda: rename("aa", "c", filled, "class"))
    assert message == "data/raw: found no class 'aa'; expected one of its folders; the nearest is 'a'"
    message = refusal(filled, lambda: rename("a", "b", filled, "class"))
    assert message.startswith("data/raw: found a class 'b'; expected a free name; `pipe relabel` moves")
    shutil.rmtree(filled.raw)
    assert refusal(filled, lambda: rename("a", "c", filled, "class")).startswith("data/raw: found no class 'a'")


def test_a_file_that_has_the_name_already_is_never_overwritten(filled: Project) -> None:
    write_photo(filled.raw / "b" / "1.png", 7)
    message = refusal(filled, lambda: relabel([Path("data/raw/a/1.png")], "b", filled, "class"))
    assert message == "data/raw/b/1.png: is there already; rename data/raw/a/1.png, or remove one"
    both = [Path("data/raw/a/1.png"), Path("data/raw/b/1.png")]
    message = refusal(filled, lambda: relabel(both, "c", filled, "class"))
    assert message == "data/raw/b/1.png and data/raw/a/1.png: both would be data/raw/c/1.png; rename one of them first"
    os.link(filled.raw / "a" / "1.png", filled.raw / "c.png")
    (filled.raw / "c.png").rename(filled.raw / "b" / "1.png")  # one file under both names
    assert "is there already" in refusal(filled, lambda: relabel(both[:1], "b", filled, "class"))


def test_a_class_that_is_a_link_takes_no_recordings(filled: Project) -> None:
    (filled.root / "other").mkdir()
    (filled.raw / "linked").symlink_to(filled.root / "other")
    message = refusal(filled, lambda: relabel([Path("data/raw/b/3.png")], "linked", filled, "class"))
    assert message == "data/raw/linked: a link; what it leads to is not the project's own"


def test_a_name_that_leaves_no_room_in_its_new_class_is_refused(filled: Project) -> None:
    folders = "/".join(["x" * 200] * ((3900 - len(str(filled.root))) // 201))
    room = 4096 - 160 - len(f"{filled.root}a/{folders}/.png") + 1
    name = f"a/{folders}/{'y' * min(room, 200)}.png"
    previous = Path.cwd()
    (filled.raw / "a").mkdir(exist_ok=True)
    try:  # such a path is too long to be made at once
        os.chdir(filled.raw / "a")
        for folder in folders.split("/"):
            Path(folder).mkdir()
            os.chdir(folder)
        Path(Path(name).name).touch()
    finally:
        os.chdir(previous)
    assert "expected at most" in refusal(filled, lambda: rename("a", "z" * 150, filled, "class"))


def test_a_table_that_is_no_csv_is_named_before_anything_moves(filled: Project) -> None:
    filled.groups_csv.write_bytes(b"\xff\xfe,")
    message = refusal(filled, lambda: rename("a", "c", filled, "class"))
    assert message.startswith(f"{filled.groups_csv}: not a UTF-8 CSV file")


@pytest.mark.parametrize("command", ["pipe relabel", "pipe extract", "pipe split"])
def test_nothing_is_corrected_while_another_command_reads_or_corrects(filled: Project, command: str) -> None:
    with exclusive_lock(filled, command):
        message = refusal(filled, lambda: rename("a", "c", filled, "class"))
    assert f"another `{command}` is running here" in message


def test_what_another_command_has_moved_in_between_is_named(filled: Project) -> None:
    filled.correction.mkdir()
    write_json(filled.correction / "moves.json", {"moves": [["a/1.png", "b/1.png"]]})
    with pytest.raises(DataError, match=r"^data/raw/a/1\.png: was moved just now by another command"):
        relabel([Path("data/raw/a/1.png")], "c", filled, "class")
    assert raw_names(filled) == {"b/1.png", "a/deep/2.png", "b/3.png"}


def test_on_a_full_disk_nothing_changes(filled: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_until_full(path: Path, value: Any) -> None:
        path.write_text("{")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(change, "write_json", write_until_full)
    message = refusal(filled, lambda: relabel([Path("data/raw/b/3.png")], "new", filled, "class"))
    assert message.startswith(f"{filled.correction}: the disk is full")


def test_where_no_folder_can_be_made_nothing_changes(filled: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Path.mkdir

    def make_until_full(path: Path, *arguments: Any, **named: Any) -> None:
        if path.name == "deep":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        make(path, *arguments, **named)

    before = content(filled)
    monkeypatch.setattr(Path, "mkdir", make_until_full)
    with pytest.raises(OSError, match="No space left"):
        relabel([Path("data/raw/a/1.png"), Path("data/raw/a/deep/2.png")], "new", filled, "class")
    assert content(filled) == before


MOMENTS = [(Path, name) for name in ("rename", "replace", "mkdir", "unlink", "rmdir")] + [(shutil, "rmtree")]
CORRECTIONS = {
    "relabel": lambda project: relabel(
        [Path("data/raw/a/1.png"), Path("data/raw/a/deep/2.png")], "new", project, "class"
    ),
    "rename": lambda project: rename("a", "c", project, "class"),
}


def _killed_at(fatal: int, correct: Callable[[Project], object], project: Project) -> bool:
    """Correct in a forked child that dies before its call of that number; returns whether it died."""
    child = os.fork()
    if child == 0:
        gc.disable()  # what other tests have left could wait in its finalizer for threads that the child lacks
        n_calls = 0

        def watched(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                nonlocal n_calls
                n_calls += 1
                if n_calls == fatal:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*arguments, **named)

            return call

        for owner, name in MOMENTS:
            setattr(owner, name, watched(getattr(owner, name)))
        try:
            correct(project)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("name", CORRECTIONS)
def test_whenever_it_is_killed_the_next_command_finds_all_or_nothing_changed(
    filled: Project, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # a killed process loses nothing that it wrote
    for module in (files, change):
        monkeypatch.setattr(module, "flush_filesystem", lambda folder: None)
    before = content(filled)
    whole = Project(shutil.copytree(filled.root, tmp_path / "whole"))
    CORRECTIONS[name](whole)
    after, found, half, fatal = content(whole), set[str](), 0, 0
    while True:
        fatal += 1
        root = Path(shutil.copytree(filled.root, tmp_path / "killed"))
        if not _killed_at(fatal, CORRECTIONS[name], Project(root)):
            break
        half += content(Project(root)) not in (before, after)
        monkeypatch.chdir(root)
        left = content(current_project())  # what every command begins with
        assert left in (before, after), fatal
        found.add("before" if left == before else "after")
        CORRECTIONS[name](Project(root)) if left == before else None
        assert content(Project(root)) == after, fatal
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(root)
    assert content(Project(root)) == after
    assert found == {"before", "after"}
    assert half > 2  # so the next command had something to finish


def test_a_recording_that_came_in_the_way_of_a_killed_change_is_kept(filled: Project) -> None:
    (filled.correction).mkdir()
    write_json(filled.correction / "moves.json", {"moves": [["a/1.png", "b/3.png"]]})
    message = refusal(filled, lambda: change.finish_change(filled))
    assert message.startswith("data/raw/b/3.png: is there, but a command that was stopped has to move data/raw/a/1.png")
    (filled.raw / "b" / "3.png").unlink()
    change.finish_change(filled)
    assert raw_names(filled) == {"a/deep/2.png", "b/3.png"}


MOVES_OF_NO_COMMAND = [
    {"moves": [["a/1.png", "../../x.png"]]}, {"moves": [["/etc/a", "b/1.png"]]}, {"moves": [["a"]]}, [], {"moves": 3},
]  # fmt: skip


@pytest.mark.parametrize("moves", MOVES_OF_NO_COMMAND)
def test_a_change_that_no_command_wrote_is_refused(filled: Project, moves: Any) -> None:
    filled.correction.mkdir()
    write_json(filled.correction / "moves.json", moves)
    message = refusal(filled, lambda: change.finish_change(filled))
    assert message == f"{filled.correction / 'moves.json'}: not written by `pipe`; remove {filled.correction}"
    assert (filled.raw / "a" / "1.png").exists()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_folder_in_the_place_of_a_change_is_named(filled: Project, kind: str) -> None:
    if kind == "file":
        filled.correction.write_text("a file")
    else:
        (filled.root / "elsewhere").mkdir()
        filled.correction.symlink_to(filled.root / "elsewhere")
    for correct in (lambda: change.finish_change(filled), lambda: rename("a", "c", filled, "class")):
        message = refusal(filled, correct)
        assert message == "data/.correction: found a file or a link; expected a folder that `pipe` makes; remove it"


def test_after_a_relabel_no_clip_is_decoded_again(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    write_raw(project.raw, clips=2, n_frames=3)
    decoded = decoded_by(monkeypatch)
    extract(extract_params(), project)
    assert len(decoded) == 4
    decoded.clear()
    relabel([Path("data/raw/brick/clip_1.mp4")], "砾石 2", project, "class")
    rename("砾石", "gravel", project, "class")
    extract(extract_params(), project)
    assert decoded == []
    labels = {row.source: row.label for row in read(project.frames_csv)}
    assert labels["data/raw/砾石 2/clip_1.mp4"] == "砾石 2"
    assert set(labels.values()) == {"brick", "gravel", "砾石 2"}
    write_raw(project.raw, labels=["new"], clips=1, n_frames=40)  # the watch does see a clip that is decoded
    extract(extract_params(), project)
    assert len(decoded) == 1


def test_after_every_correction_and_five_more_recordings_all_others_keep_their_places(project: Project) -> None:
    def places() -> dict[str, tuple[str, int | None]]:
        """The side and fold of each recording, by its content."""
        extract(extract_params(), project)
        write([], project.augmented_csv)
        split(params, project)
        return {row.source_sha256: (row.split, row.fold) for row in read_split_without_leaks(project)}

    def path_of(sha256: str) -> Path:
        return next(path for path in project.raw.glob("*/*.png") if files.sha256_of(path) == sha256)

    params = without_search(read_section(project.params_yaml, "split", SplitParams), keep=True)
    params = params.model_copy(update={"photo_groups": "each"})
    for number in range(14):
        write_photo(project.raw / "ab"[number % 2] / f"{number:02}.png", number)
    before = places()
    in_test = next(
        sha256 for sha256, (side, _) in before.items() if side == "test" and path_of(sha256).parent.name == "b"
    )
    gone = next(sha256 for sha256, (side, _) in before.items() if side == "train")
    relabel([path_of(in_test)], "a", project, "class")
    rename("a", "zz", project, "class")
    remove([path_of(gone)], project, "class")
    for number in range(20, 25):
        write_photo(project.raw / ("zz", "b")[number % 2] / f"00{number}.png", number)
    after = places()
    assert len(after) == 18
    assert {sha256: after.get(sha256) for sha256 in before} == before | {gone: None}
    project.split_keep_csv.unlink()
    anew = places()  # the control: without the kept places, others move
    assert {sha256: anew.get(sha256) for sha256 in before} != before | {gone: None}


def test_the_commands_say_what_they_did_and_what_comes_next(filled: Project) -> None:
    done = run_pipe(filled.root, "relabel", "data/raw/a/1.png", "--label", "b")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 recording moved to class b;")
    assert done.stdout.endswith("changed with them; next: dvc repro\n")
    refused = run_pipe(filled.root, "rename", "x", "y")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert refused.stderr.startswith("pipe: data/raw: found no class 'x'")
