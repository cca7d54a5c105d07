"""`pipe add`: recordings are copied below their class, all of them or none."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.base import files
from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.tools.adding.add import Renaming, add
from tests.support.command import run_pipe
from tests.support.media import OTHER_CONTAINERS, write_photo, write_plain


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(paths: list[Path], label: str, project: Project) -> str:
    before = sorted(project.root.rglob("*"))
    with pytest.raises(DataError) as caught:
        add(paths, label, project)
    assert sorted(project.root.rglob("*")) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_and_folders_are_copied_below_their_class(project: Project, tmp_path: Path) -> None:
    single = tmp_path / "IMG_1.MOV"
    single.write_bytes(b"one")
    for name in ("card/a.mp4", "card/deep/b.jpg", "card/notes.txt", "card/.hidden.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    report = add([single, tmp_path / "card"], "鳞片石墨", project)
    assert content(project.raw) == {
        "鳞片石墨/IMG_1.MOV": b"one",
        "鳞片石墨/a.mp4": b"card/a.mp4",
        "鳞片石墨/deep/b.jpg": b"card/deep/b.jpg",
    }
    assert single.exists()
    assert report.headline == "3 files added to data/raw/鳞片石墨"


def test_the_same_content_again_is_counted_as_already_there(project: Project, tmp_path: Path) -> None:
    photos = [write_photo(tmp_path / f"{number}.png", number) for number in range(2)]
    add(photos[:1], "a", project)
    assert add(photos, "a", project).headline == "1 file added to data/raw/a (1 already there)"
    assert add(photos, "a", project).headline == "0 files added to data/raw/a (2 already there)"


def test_another_file_of_the_same_name_is_not_overwritten(project: Project, tmp_path: Path) -> None:
    add([write_photo(tmp_path / "one" / "x.png", 1)], "a", project)
    photos = [write_photo(tmp_path / "two" / name, 2) for name in ("a.png", "x.png")]
    before = content(project.raw)
    assert "x.png: a file with other content is there; rename" in refusal(photos, "a", project)
    assert content(project.raw) == before


def test_two_files_that_would_have_one_name_are_refused(project: Project, tmp_path: Path) -> None:
    left, right = (write_photo(tmp_path / name / "x.png", number) for number, name in enumerate("lr"))
    assert "but other content; rename one of them" in refusal([left, right], "a", project)
    copy = tmp_path / "c" / "x.png"
    copy.parent.mkdir()
    shutil.copy(left, copy)
    assert add([left, copy], "a", project).n_added == 1


@pytest.mark.parametrize(
    "label", ["", ".", "..", ".hidden", "a/b", "a\\b", "../a", "a\nb", " a", "a ", "石" * 86, "@eaDir"]
)
def test_a_label_that_is_no_folder_is_refused(project: Project, tmp_path: Path, label: str) -> None:
    message = refusal([write_photo(tmp_path / "x.png")], label, project)
    assert "--label" in message or "name" in message


def test_a_label_that_reads_like_a_class_that_is_there_is_refused(project: Project, tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "1.png", 1)
    add([photo], "brick", project)
    assert refusal([photo], "Brick", project).startswith(
        "data/raw: the classes 'Brick' and 'brick' differ only in case"
    )
    add([photo], "bricks", project)


@pytest.mark.parametrize("source", [".", "data", "data/raw", "data/raw/other", "data/frames/a.jpg"])
def test_what_the_project_has_already_is_not_added_again(project: Project, source: str) -> None:
    for name in ("data/raw/other/a.jpg", "data/frames/a.jpg"):
        (project.root / name).parent.mkdir(parents=True, exist_ok=True)
        (project.root / name).write_bytes(b"a picture")
    message = refusal([project.root / source], "ours", project)
    assert "whose files have classes already" in message


def test_a_path_that_is_neither_clip_nor_photo_is_refused(project: Project, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    assert "neither clip nor photo by its name" in refusal([tmp_path / "notes.txt"], "a", project)
    assert "no such file" in refusal([tmp_path / "missing.mp4"], "a", project)
    assert "no clip or photo in it" in refusal([tmp_path / "empty"], "a", project)
    hidden = write_photo(tmp_path / ".x.png")
    assert "hidden by its name" in refusal([hidden], "a", project)


def test_a_recording_whose_suffix_is_not_read_is_named_by_its_content(project: Project, tmp_path: Path) -> None:
    tape = write_plain(tmp_path / "card" / "tape.mxf", *OTHER_CONTAINERS[".mxf"], n_frames=2)
    photo = write_photo(tmp_path / "card" / "x.png").rename(tmp_path / "card" / "x.part")
    assert refusal([tape], "a", project).endswith("tape.mxf: MXF, which is not read here; convert it to MP4")
    assert "x.part: PNG under a suffix that is not read; " in refusal([photo], "a", project)
    assert "but 2 recordings with a suffix that is not read: 1 .mxf, 1 .part" in refusal([tape.parent], "a", project)
    write_photo(tmp_path / "card" / "y.png")
    left_out = "left out 2 recordings with a suffix that is not read: 1 .mxf, 1 .part"
    assert add([tape.parent], "a", project).headline == f"1 file added to data/raw/a; {left_out}"


def test_litter_is_not_added(project: Project, tmp_path: Path) -> None:
    for name in ("card/1.png", "card/@eaDir/1.png/thumb.png", "card/#recycle/2.png", "card/._1.png"):
        write_photo(tmp_path / name)
    assert add([tmp_path / "card"], "a", project).headline == "1 file added to data/raw/a"


def test_a_folder_is_searched_once_for_temporaries_however_many_files_come(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        write_photo(tmp_path / "card" / f"{number}.png", number)
    searched: list[Path] = []
    monkeypatch.setattr(files, "sweep_stale", searched.append)
    add([tmp_path / "card"], "a", project)
    assert len(content(project.raw)) == 20
    assert (
        len(searched) == 1
    )  # a search for each file would be quadratic, since a search looks at every name of the folder


def test_a_name_as_long_as_the_file_system_allows_is_refused_before_its_frames_find_no_room(
    project: Project, tmp_path: Path
) -> None:
    photo = write_photo(tmp_path / f"{'石' * 83}.png")
    assert refusal([photo], "a", project).endswith("a file name of 253 bytes; expected at most 220; rename it")
    assert add([photo.rename(tmp_path / f"{'石' * 72}.png")], "a", project).n_added == 1


def test_temporaries_of_a_killed_run_are_removed(project: Project, tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = project.raw / "a" / f".added.{dead.pid}.tmp"
    write_photo(left / "half.png")
    add([write_photo(tmp_path / "x.png")], "a", project)
    assert [path.name for path in (project.raw / "a").iterdir()] == ["x.png"]


def test_when_the_disk_is_full_no_file_is_added(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = [write_photo(tmp_path / "card" / "deep" / f"{number}.png", number) for number in range(3)]
    copy = shutil.copyfile

    def copy_until_full(source: Path, target: Path) -> Any:
        copy(source, target)
        if source == photos[2]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(shutil, "copyfile", copy_until_full)
    with pytest.raises(OSError, match="No space left"):
        add([tmp_path / "card"], "a", project)
    assert not project.raw.exists() or not list(project.raw.iterdir())


def test_two_phones_that_count_alike_get_other_names(project: Project, tmp_path: Path) -> None:
    phones = [write_photo(tmp_path / phone / "IMG_1.PNG", number) for number, phone in enumerate(("one", "two"))]
    add(phones[:1], "a", project)
    assert "IMG_1.PNG, add it with --as NAME, or remove the other" in refusal(phones[1:], "a", project)
    add(phones[1:], "a", project, Renaming("two_IMG_1"))
    add(phones[1:], "a", project, Renaming("v1.2.png"))
    add([tmp_path / "two"], "a", project, Renaming("two"))
    assert sorted(content(project.raw)) == ["a/IMG_1.PNG", "a/two/IMG_1.PNG", "a/two_IMG_1.PNG", "a/v1.2.png"]
    other = write_photo(tmp_path / "three" / "IMG_1.PNG", 3)
    with pytest.raises(DataError, match=r"two_IMG_1\.PNG: a file with other content is there"):
        add([other], "a", project, Renaming("two_IMG_1"))


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "x/y", "x\\y", "../x", "x\ny", " x", "Thumbs.db", "x.jpg"])
def test_another_name_that_is_none_is_refused(project: Project, tmp_path: Path, name: str) -> None:
    photo = write_photo(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"--as|name") as caught:
        add([photo], "a", project, Renaming(name))
    assert "\n" not in str(caught.value)
    assert not project.raw.exists()


def test_one_name_is_for_one_path(project: Project, tmp_path: Path) -> None:
    photos = [str(write_photo(tmp_path / f"{number}.png", number)) for number in range(2)]
    refused = run_pipe(project.root, "add", *photos, "--label", "a", "--as", "x")
    assert refused.returncode == 2
    assert "--as goes with one PATH" in refused.stderr
    assert run_pipe(project.root, "add", photos[0], "--label", "a", "--as", "x", "--no-dvc").returncode == 0
    assert list(content(project.raw)) == ["a/x.png"]
