from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import get_args

import pytest

from pipeline.augment.params import Copy
from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.media.recordings import Recording, check_lengths, count_unread, find_recordings, longest_part
from tests.support.media import OTHER_CONTAINERS, write_dng, write_photo, write_plain


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
    assert refusal(project).startswith(r"data/raw: the classes 'cafe\u0301' and 'caf\xe9' differ only in case, width, ")
    shutil.rmtree(project.raw / "caf\u00e9")
    assert {recording.label for recording in find_recordings(project, "class").recordings} == {"cafe\u0301", "b"}


def test_litter_is_no_recording_no_class_and_not_even_ignored(project: Project) -> None:
    put(project, "a/1.mp4", "b/2.mp4", "a/Thumbs.db", "a/._1.mp4", "a/@eaDir/1.mp4/SYNOPHOTO_THUMB_M.jpg")
    put(
        project,
        "@eaDir/1.mp4",
        "#recycle/old/3.mp4",
        "__MACOSX/a/4.mp4",
        "a/.@__thumb/1.jpg",
        "desktop.ini",
        "b/me.txt",
    )
    raw = find_recordings(project, "class")
    assert [recording.name for recording in raw.recordings] == ["a/1.mp4", "b/2.mp4"]
    assert raw.ignored == ("b/me.txt",)


def test_recordings_under_a_suffix_that_is_not_read_are_named_apart(project: Project) -> None:
    put(project, "a/1.mp4", "b/2.mp4", "a/notes.txt", "a/zeros.bin", "a/empty.dat")
    write_plain(project.raw / "a" / "tape.mxf", *OTHER_CONTAINERS[".mxf"], n_frames=2)
    write_plain(project.raw / "b" / "tape.DAT", *OTHER_CONTAINERS[".vob"], n_frames=2)
    write_photo(project.raw / "b" / "5.png").rename(project.raw / "b" / "photo")
    write_dng(project.raw / "b" / "raw.dng")
    (project.raw / "a" / "notes.txt").write_text("BM and GIF89a begin pictures", encoding="utf-8")
    (project.raw / "a" / "zeros.bin").write_bytes(bytes(1000))
    raw = find_recordings(project, "class")
    assert raw.unread == {"a/tape.mxf": "MXF", "b/photo": "PNG", "b/raw.dng": "camera raw (DNG)", "b/tape.DAT": "MPEG"}
    assert raw.ignored == ("a/empty.dat", "a/notes.txt", "a/zeros.bin")
    assert [recording.name for recording in raw.recordings] == ["a/1.mp4", "b/2.mp4"]
    line = "4 recordings with a suffix that is not read: 1 .dat, 1 .dng, 1 .mxf, 1 without suffix"
    assert count_unread(raw.unread) == line
    assert count_unread(["a/x.MXF"]) == "1 recording with a suffix that is not read: 1 .mxf"


def test_a_class_that_holds_only_such_recordings_is_refused_and_they_are_named(project: Project) -> None:
    put(project, "a/1.mp4", "b/notes.txt")
    write_plain(project.raw / "b" / "tape.mxf", *OTHER_CONTAINERS[".mxf"], n_frames=2)
    assert "no clip or photo in it, but 1 recording with a suffix that is not read: 1 .mxf" in refusal(project)


def test_a_pipe_and_a_file_that_cannot_be_opened_are_ignored_and_not_waited_for(project: Project) -> None:
    put(project, "a/1.mp4", "b/2.mp4")
    os.mkfifo(project.raw / "a" / "pipe.dat")
    (project.raw / "a" / "gone.dat").symlink_to("nowhere")
    assert find_recordings(project, "class").ignored == ("a/gone.dat", "a/pipe.dat")


def test_links_to_folders_are_named_since_dvc_does_not_look_into_them(project: Project, tmp_path: Path) -> None:
    put(project, "a/1.mp4", "b/2.mp4")
    (tmp_path / "card" / "deep").mkdir(parents=True)
    (tmp_path / "card" / "deep" / "3.mp4").touch()
    (project.raw / "a" / "card").symlink_to(tmp_path / "card")
    (project.raw / "a" / "linked.mp4").symlink_to(tmp_path / "card" / "deep" / "3.mp4")
    raw = find_recordings(project, "class")
    assert [recording.name for recording in raw.recordings] == [
        "a/1.mp4",
        "a/card/deep/3.mp4",
        "a/linked.mp4",
        "b/2.mp4",
    ]
    assert raw.linked_folders == ("a/card",)


def test_a_name_that_leaves_no_room_for_its_copies_is_refused(project: Project) -> None:
    most = longest_part(project.root)
    assert most + len(longest_ending()) <= 255
    fits, long = ("x" * (n_bytes - 4) + ".jpg" for n_bytes in (most, most + 1))
    put(project, f"a/{fits}", "b/2.mp4")
    assert len(find_recordings(project, "class").recordings) == 2
    put(project, f"a/{long}")
    assert refusal(project) == f"a/{long}: a file name of {most + 1} bytes; expected at most {most}; rename it"
    (project.raw / "a" / long).unlink()
    put(project, f"a/{'石' * (most // 3 + 1)}/1.mp4")
    assert "a folder name of" in refusal(project)


def longest_ending() -> str:
    """The longest that a stage adds to the name of a photo: that of its frame, and of a copy."""
    names = [name for copy in get_args(get_args(Copy)[0]) for name in get_args(copy.model_fields["name"].annotation)]
    return ".jpg" + max((f".999_{name}.jpg" for name in names), key=len)


def test_a_path_that_leaves_no_room_is_refused(project: Project) -> None:
    limit = os.pathconf(project.root, "PC_PATH_MAX")
    name = "/".join(["d" * 200] * (limit // 201))
    with pytest.raises(DataError, match=r"bytes with those of the project; .*; rename its folders"):
        check_lengths(f"{name}/1.mp4", project.root)
    check_lengths(f"{name[: limit // 2]}/1.mp4", project.root)
