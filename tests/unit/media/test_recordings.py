from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.media.recordings import Recording, find_recordings


def put(project: Project, *names: str) -> None:
    """Write empty files below data/raw: only their names are read."""
    for name in names:
        (project.raw / name).parent.mkdir(parents=True, exist_ok=True)
        (project.raw / name).touch()


def refusal(project: Project, layout: str = "class") -> str:
    with pytest.raises(DataError) as caught:
        find_recordings(project, layout)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_recordings_of_all_folders_below_a_class_are_its_own(project: Project) -> None:
    put(project, "砾石/monday/clip.MP4", "砾石/photo.jpeg", "brick/a.mov", "brick/notes.txt", "read.me")
    put(project, "brick/.hidden.mp4", ".trash/clip.mp4", ".DS_Store")
    raw = find_recordings(project, "class")
    assert raw.recordings == (
        Recording(Path("data/raw/brick/a.mov"), "brick/a.mov", "brick"),
        Recording(Path("data/raw/砾石/monday/clip.MP4"), "砾石/monday/clip.MP4", "砾石"),
        Recording(Path("data/raw/砾石/photo.jpeg"), "砾石/photo.jpeg", "砾石"),
    )
    assert raw.ignored == ("brick/notes.txt", "read.me")


def test_the_folders_can_give_the_split(project: Project) -> None:
    put(project, "train/ants/1.png", "train/bees/2.png", "val/ants/3.png")
    raw = find_recordings(project, "split")
    assert [(recording.given_split, recording.label) for recording in raw.recordings] == [
        ("train", "ants"), ("train", "bees"), ("val", "ants"),
    ]  # fmt: skip


def test_links_to_files_and_folders_are_followed(project: Project, tmp_path: Path) -> None:
    put(project, "a/1.mp4")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "2.mp4").touch()
    (project.raw / "b").symlink_to(tmp_path / "elsewhere")
    (project.raw / "a" / "linked.mp4").symlink_to(tmp_path / "elsewhere" / "2.mp4")
    assert [recording.name for recording in find_recordings(project, "class").recordings] == [
        "a/1.mp4",
        "a/linked.mp4",
        "b/2.mp4",
    ]


def test_no_folder_and_no_classes_are_refused(project: Project) -> None:
    advice = "put clips into data/raw/<class>/, or: pipe add VIDEO --label NAME"
    assert refusal(project) == f"data/raw: no such folder; {advice}"
    put(project, ".DS_Store", "read.me")
    assert refusal(project) == f"data/raw: no classes; {advice}"
    assert refusal(project, "split") == f"data/raw: no classes; {advice}"


def test_an_empty_class_is_refused(project: Project) -> None:
    put(project, "a/1.mp4", "b/2.mp4", "c/notes.txt")
    assert refusal(project) == "data/raw/c: no clip or photo in it; add one, or remove the folder"


def test_one_class_is_refused(project: Project) -> None:
    put(project, "brick/1.mp4", "brick/2.mp4")
    assert refusal(project) == "data/raw: one class only (brick); a classifier needs at least two"


def test_media_outside_the_classes_are_refused(project: Project) -> None:
    put(project, "a/1.mp4", "b/2.mp4", "photo.png")
    assert refusal(project) == "data/raw/photo.png: outside the classes; move it into the folder of its class"


def test_splits_taken_for_classes_are_refused_and_the_other_way_round(project: Project) -> None:
    put(project, "train/ants/1.png", "test/bees/2.png")
    assert refusal(project) == "data/raw: the classes are test, train; if they are splits, extract.layout: split"
    put(project, "more/ants/3.png")
    assert refusal(project, "split").startswith("data/raw/more: not a split")


def test_media_beside_the_classes_of_a_split_are_refused(project: Project) -> None:
    put(project, "train/ants/1.png", "train/bees/2.png", "train/stray.mp4")
    assert refusal(project, "split").startswith("data/raw/train/stray.mp4: outside the classes")


def test_a_link_in_a_circle_and_one_to_nothing_are_refused(project: Project) -> None:
    put(project, "a/1.mp4", "b/2.mp4")
    (project.raw / "a" / "loop").symlink_to(project.raw / "a")
    assert "leads back to a folder above it" in refusal(project)
    (project.raw / "a" / "loop").unlink()
    (project.raw / "a" / "gone.mp4").symlink_to("nowhere.mp4")
    assert refusal(project).startswith("data/raw/a/gone.mp4: not a file")


@pytest.mark.parametrize(
    "name", ["two\nlines.mp4", "two\u2028lines.mp4", "back\\slash.mp4", os.fsdecode(b"latin\xe9.mp4")]
)
def test_a_name_that_a_manifest_cannot_hold_is_refused(project: Project, name: str) -> None:
    put(project, f"a/{name}", "b/2.mp4")
    assert refusal(project).endswith("in its name; rename it")


def test_an_ignored_file_may_have_any_name(project: Project) -> None:
    put(project, "a/1.mp4", "b/2.mp4", os.fsdecode(b"a/r\xe9sum\xe9.txt"))
    assert find_recordings(project, "class").ignored == ("a/r\\udce9sum\\udce9.txt",)


def test_one_name_in_two_spellings_of_unicode_is_one_class(project: Project) -> None:
    put(project, "caf\u00e9/1.mp4", "cafe\u0301/2.mp4", "b/3.mp4")  # as Linux and macOS write it
    assert "two folders are called cafe\u0301, in different Unicode spellings" in refusal(project)
    shutil.rmtree(project.raw / "caf\u00e9")
    assert {recording.label for recording in find_recordings(project, "class").recordings} == {"cafe\u0301", "b"}
