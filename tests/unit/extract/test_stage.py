from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pillow_heif
import pytest
from PIL import Image

from pipeline.base import manifest
from pipeline.base.errors import DataError, PipeError
from pipeline.base.files import exclusive_lock
from pipeline.base.project import Project
from pipeline.extract import decode_all
from pipeline.extract.child import decode_recordings
from pipeline.extract.stage import extract, extract_files
from runtime.system.scratch import machine_digits
from tests.support.captures import write_captured_photo
from tests.support.command import ROOT
from tests.support.extraction import entries, everything_in, extract_params, made_by, refusal
from tests.support.media import (
    OTHER_CONTAINERS,
    damage,
    number_in,
    picture,
    write_clip,
    write_photo,
    write_plain,
    write_raw,
    write_sound,
)

pillow_heif.register_heif_opener()


def read_pixels(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    decoded = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def test_the_manifest_says_when_and_with_which_camera_each_was_recorded(project: Project) -> None:
    write_captured_photo(project.raw / "b" / "a.jpg", taken="2024:05:03 14:22:07", make="Canon", model="EOS 7D")
    write_captured_photo(project.raw / "b" / "IMG_20190101_123456_BURST001.jpg", level=120)
    clip = write_clip(project.raw / "a" / "VID_20230405_123456.mp4", n_frames=20)
    shutil.copy(clip, project.raw / "a" / "copy.mp4")  # decoded once: the name's time is not the content's
    extract(extract_params(), project)
    rows = manifest.read(project.frames_csv)
    assert {(Path(row.source).name, row.recorded_at, row.camera, row.burst) for row in rows} == {
        ("a.jpg", "2024-05-03T14:22:07", "Canon EOS 7D", ""),
        ("IMG_20190101_123456_BURST001.jpg", "2019-01-01T12:34:56", "", "burst=IMG-20190101-123456"),
        ("VID_20230405_123456.mp4", "2023-04-05T12:34:56", "", ""),
        ("copy.mp4", "", "", ""),
    }


# What it writes.


def test_frames_manifest_and_report_agree(filled: Project) -> None:
    report = extract(extract_params(), filled)
    rows = manifest.read(filled.frames_csv)
    assert {filled.root / row.path for row in rows} == {path for path in filled.frames.rglob("*") if path.is_file()}
    assert [row.path for row in rows if row.source == "data/raw/砾石/clip_1.mp4"] == [
        f"data/frames/砾石/clip_1.mp4/{index:06d}.jpg" for index in (0, 10, 20)
    ]
    stored = json.loads(filled.extract_json.read_text(encoding="utf-8"))
    assert stored["n_frames"] == len(rows) == sum(clip["frames_extracted"] for clip in stored["clips"])
    assert stored["classes"] == {
        label: {"clips": 1, "photos": 0, "frames": 3, "kept": 3} for label in ("brick", "砾石")
    }
    assert stored["params"]["frames_per_second"] == 1
    assert stored["clips"][0]["source"] == "data/raw/brick/clip_1.mp4"
    assert (stored["clips"][0]["codec"], stored["clips"][0]["frames_promised"]) == ("h264", 21)
    assert report.headline == "6 frames of 2 clips in data/frames.csv"


def test_a_row_describes_its_frame(filled: Project) -> None:
    extract(extract_params(), filled)
    row = manifest.read(filled.frames_csv)[1]
    clip = filled.root / "data/raw/brick/clip_1.mp4"
    assert (row.label, row.source, row.group) == ("brick", filled.relative(clip), filled.relative(clip))
    assert row.source_sha256 == hashlib.sha256(clip.read_bytes()).hexdigest()
    assert (row.time_seconds, row.width, row.height, row.given_split) == (1.0, 64, 48, "")
    assert (row.kept, row.drop_reason, row.parent, row.transform) == (True, "", "", "")
    pixels_hwc = read_pixels(filled.root / row.path)
    assert number_in(pixels_hwc) == 10
    assert row.brightness == pytest.approx(cv2.cvtColor(pixels_hwc, cv2.COLOR_RGB2GRAY).mean(), abs=2)
    assert row.sharpness is not None
    assert len(row.phash) == 16


def test_photos_and_folders_below_a_class_are_taken(project: Project) -> None:
    write_clip(project.raw / "a" / "monday" / "clip.MP4")
    write_photo(project.raw / "a" / "photo.jpg", 5)
    write_photo(project.raw / "b" / "deep" / "er" / "photo.png", 7)
    (project.raw / "b" / "notes.txt").write_text("not for us", encoding="utf-8")
    (project.raw / "b" / ".hidden.mp4").write_text("not for us", encoding="utf-8")
    (project.raw / "readme.md").touch()
    report = extract(extract_params(), project)
    rows = {row.path: row for row in manifest.read(project.frames_csv)}
    assert set(rows) == {
        "data/frames/a/monday/clip.MP4/000000.jpg",
        "data/frames/a/monday/clip.MP4/000010.jpg",
        "data/frames/a/photo.jpg.jpg",
        "data/frames/b/deep/er/photo.png.jpg",
    }
    photo = rows["data/frames/b/deep/er/photo.png.jpg"]
    assert (photo.time_seconds, photo.group, photo.label) == (None, "data/raw/b/deep/er/photo.png", "b")
    assert number_in(read_pixels(project.root / photo.path)) == 7
    assert report.ignored == ("b/notes.txt", "readme.md")
    assert report.headline.endswith("; 2 files ignored")


def test_what_is_not_used_and_what_is_left_out_of_a_photo_is_reported(project: Project, tmp_path: Path) -> None:
    write_photo(project.raw / "b" / "photo.png", 5)
    write_plain(project.raw / "b" / "tape.mxf", *OTHER_CONTAINERS[".mxf"], n_frames=2)
    pages = [Image.fromarray(picture(number)) for number in (3, 5)]
    (project.raw / "a").mkdir()
    pages[0].save(project.raw / "a" / "scan.tif", save_all=True, append_images=pages[1:])
    write_photo(tmp_path / "card" / "photo.png", 9)
    (project.raw / "b" / "card").symlink_to(tmp_path / "card")
    report = extract(extract_params(), project)
    written = json.loads(project.extract_json.read_text(encoding="utf-8"))
    assert written["unread"] == {"b/tape.mxf": "MXF"}
    assert written["photo_warnings"] == {"data/raw/a/scan.tif": ["2 pages, of which the first is read"]}
    assert written["linked_folders"] == ["b/card"]
    assert report.headline == (
        "3 frames of 3 photos in data/frames.csv; 1 photo with warnings; "
        "1 recording with a suffix that is not read: 1 .mxf; 1 linked folder, of which dvc repro sees no change"
    )


def test_a_recording_with_a_wrong_suffix_is_read_by_its_content_and_reported(project: Project) -> None:
    write_photo(project.raw / "a" / "photo.png", 3).rename(project.raw / "a" / "photo.mp4")
    write_photo(project.raw / "a" / "right.png", 5)
    write_clip(project.raw / "b" / "clip.mp4").rename(project.raw / "b" / "clip.jpg")
    report = extract(extract_params(image_format="png"), project)
    assert report.classes == {
        "a": {"clips": 0, "photos": 2, "frames": 2, "kept": 2},
        "b": {"clips": 1, "photos": 0, "frames": 2, "kept": 2},
    }
    assert np.array_equal(read_pixels(project.frames / "a" / "photo.mp4.png"), picture(3))
    misnamed = {"data/raw/a/photo.mp4": "PNG named .mp4", "data/raw/b/clip.jpg": "video named .jpg"}
    assert json.loads(project.extract_json.read_text(encoding="utf-8"))["misnamed"] == misnamed
    assert report.headline.endswith("; 2 with a wrong suffix")


def test_a_heic_photo_becomes_a_frame(project: Project) -> None:
    (project.raw / "a").mkdir(parents=True)
    Image.fromarray(picture(3)).save(project.raw / "a" / "IMG_0001.HEIC", format="HEIF", quality=95)
    write_photo(project.raw / "b" / "photo.png", 5)
    extract(extract_params(image_format="png"), project)
    made = read_pixels(project.frames / "a" / "IMG_0001.HEIC.png")
    assert np.abs(made.astype(int) - picture(3)).mean() < 3


def test_png_keeps_every_pixel(project: Project) -> None:
    write_photo(project.raw / "a" / "photo.png", 3)
    write_photo(project.raw / "b" / "photo.bmp", 4)
    extract(extract_params(image_format="png"), project)
    assert np.array_equal(read_pixels(project.frames / "a" / "photo.png.png"), picture(3))


def test_the_quality_of_jpeg_is_that_of_the_params(filled: Project) -> None:
    def bytes_at(quality: int) -> int:
        extract(extract_params(jpeg_quality=quality), filled)
        return sum(path.stat().st_size for path in filled.frames.rglob("*.jpg"))

    assert bytes_at(20) < bytes_at(95)


def test_the_folders_can_give_the_split(project: Project) -> None:
    for split in ("train", "val"):
        for label in ("ants", "bees"):
            write_photo(project.raw / split / label / "photo.png")
    extract(extract_params(layout="split"), project)
    rows = manifest.read(project.frames_csv)
    assert {(row.given_split, row.label, row.path) for row in rows} == {
        (split, label, f"data/frames/{split}/{label}/photo.png.jpg")
        for split in ("train", "val")
        for label in ("ants", "bees")
    }


def test_a_damaged_clip_keeps_what_decodes_and_says_so(filled: Project) -> None:
    clip = write_clip(filled.raw / "brick" / "cut.mkv", n_frames=40, sides=(320, 240), noise=20)
    damage(clip, share_kept=0.7, flipped=20)
    report = extract(extract_params(frames_per_second=5), filled)
    warned = [entry for entry in report.clips if entry["warnings"]]
    assert [entry["source"] for entry in warned] == ["data/raw/brick/cut.mkv"]
    assert 0 < warned[0]["frames_found"] < 40
    assert "1 clip with warnings" in report.headline
    first = made_by(filled)
    extract(extract_params(frames_per_second=5), filled)
    assert made_by(filled) == first


def test_the_number_of_workers_changes_no_byte(filled: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photo(filled.raw / "brick" / "photo.png")
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    extract(extract_params(), filled)
    alone = made_by(filled)
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT")
    extract(extract_params(), filled)
    assert made_by(filled) == alone


def test_frames_that_are_no_longer_wanted_go_away(filled: Project) -> None:
    extract(extract_params(frames_per_second=10), filled)
    shutil.rmtree(filled.raw / "brick")
    write_photo(filled.raw / "new" / "photo.png")
    extract(extract_params(), filled)
    assert {path.name for path in filled.frames.iterdir()} == {"new", "砾石"}


# Screening.


def write_screened(project: Project) -> None:
    """Class a: a clip whose last three frames are its first three; class b: a good photo and a tiny one."""
    raw = project.raw
    write_clip(raw / "a" / "clip.mp4", n_frames=33)
    write_photo(raw / "b" / "good.png", 5)
    write_photo(raw / "b" / "tiny.png", 5, sides=(30, 30))


def test_screening_marks_frames_in_the_manifest_and_deletes_none(project: Project) -> None:
    write_screened(project)
    any_sharpness = extract_params().screening.model_dump() | {"min_sharpness": 0.0}  # the drawn frames are flat
    report = extract(extract_params(frames_per_second=10, screening=any_sharpness), project)
    rows = manifest.read(project.frames_csv)
    assert all((project.root / row.path).is_file() for row in rows)
    dropped = {row.path.removeprefix("data/frames/"): row.drop_reason for row in rows if not row.kept}
    assert list(dropped) == [*(f"a/clip.mp4/{index:06d}.jpg" for index in (30, 31, 32)), "b/tiny.png.jpg"]
    assert all(re.fullmatch(r"repeated: [0-2]\.\d < 3 from frame 00000\d", dropped[path]) for path in list(dropped)[:3])
    assert dropped["b/tiny.png.jpg"] == "small: 30 pixels < 32"
    assert report.classes["a"] == {"clips": 1, "photos": 0, "frames": 33, "kept": 30}
    assert report.classes["b"] == {"clips": 0, "photos": 2, "frames": 2, "kept": 1}
    (clip,) = json.loads(project.extract_json.read_text(encoding="utf-8"))["clips"]
    assert (clip["frames_extracted"], clip["frames_kept"], clip["dropped"]) == (33, 30, {"repeated": 3})
    assert clip["brightness"]["least"] < clip["brightness"]["median"] < clip["brightness"]["most"]
    assert (clip["footage"]["container"], clip["footage"]["frames_per_second"]) == ("mov", 10)
    assert "; 4 screened out" in report.headline


def test_keep_all_switches_screening_off(project: Project) -> None:
    write_screened(project)
    report = extract(extract_params(frames_per_second=10, keep_all=True), project)
    assert all(row.kept and not row.drop_reason for row in manifest.read(project.frames_csv))
    assert "screened out" not in report.headline


def test_a_class_that_screening_would_empty_is_refused(filled: Project) -> None:
    write_photo(filled.raw / "tiny" / "a.png", sides=(30, 30))
    message = refusal(filled)
    assert message.startswith("class 'tiny': screening kept none of its 1 frame (1 small); ")
    extract(extract_params(keep_all=True), filled)
    assert len(manifest.read(filled.frames_csv)) == 7


def test_a_video_by_itself_may_lose_all_its_frames(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "tiny.mp4", sides=(30, 30))
    report = extract_files([clip], tmp_path / "out", extract_params())
    assert report.headline.startswith("2 frames of 1 clip in ")
    assert report.headline.endswith("; 2 screened out")


# What it refuses.


def test_while_another_extract_runs_here_nothing_is_touched(filled: Project) -> None:
    with exclusive_lock(filled, "pipe extract"):
        assert "another `pipe extract` is running here" in refusal(filled)
    extract(extract_params(), filled)


def test_no_folder_of_recordings_is_refused(project: Project) -> None:
    line = "data/raw: no such folder; put clips into data/raw/<class>/, or: pipe add VIDEO --label NAME"
    assert refusal(project) == line


def write_text(path: Path) -> None:
    path.write_text("no video", encoding="utf-8")


def write_playlist(path: Path) -> None:
    path.write_text(f"ffconcat version 1.0\nfile {path.with_name('clip_1.mp4')}\n", encoding="utf-8")


def write_broken_photo(path: Path) -> None:
    path.write_bytes(write_photo(path.with_name("whole.png"), sides=(640, 480)).read_bytes()[:200])
    path.with_name("whole.png").unlink()


def write_large_photo(path: Path) -> None:
    write_photo(path, sides=(2000, 1000))


@pytest.mark.parametrize(
    ("name", "write", "line"),
    [
        ("bad.mp4", write_text, "its content is not MP4"),
        ("bad.mp4", write_playlist, "its content is not MP4"),
        ("bad.mp4", Path.touch, "empty file (0 bytes); delete or re-copy it"),
        ("bad.mp4", write_sound, "has no video stream"),
        ("bad.png", write_broken_photo, ""),
        ("bad.png", write_large_photo, "2000 x 1000 pixels"),
        ("bad.heic", write_text, "its content is no picture that is read here; export it as JPEG or PNG, or remove it"),
        ("bad.heic", Path.touch, "empty file (0 bytes); delete or re-copy it"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_in_one_line(
    filled: Project, name: str, write: Callable[[Path], object], line: str
) -> None:
    write(filled.raw / "brick" / name)
    message = refusal(filled, max_megapixels=1)
    assert message.startswith(f"data/raw/brick/{name}: {line}")


def test_of_several_bad_files_the_first_is_named_and_the_others_counted(filled: Project) -> None:
    for name in ("x.mp4", "y.mp4", "z.png"):
        write_text(filled.raw / "brick" / name)
    message = refusal(filled)
    assert message.startswith("data/raw/brick/x.mp4: ")
    assert message.endswith("; 2 more cannot be used")


def test_what_was_made_before_stays_when_a_new_clip_is_bad(filled: Project) -> None:
    extract(extract_params(), filled)
    write_text(filled.raw / "brick" / "bad.mp4")
    refusal(filled)
    assert len(manifest.read(filled.frames_csv)) == 6


# Disks and interruptions.


def test_a_full_disk_says_so_and_leaves_what_was_there(filled: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    extract(extract_params(), filled)
    monkeypatch.setattr("pipeline.extract.decode_all.CHILD", f"{__name__}:decode_on_a_full_disk")
    message = refusal(filled, frames_per_second=5)
    assert message.endswith(".jpg: cannot be written (No space left on device); make room for it, then run again")


def decode_on_a_full_disk(**arguments: Any) -> object:
    """Run by a child: the third picture does not fit."""
    written = iter(range(2))

    def write_bytes(path: Path, data: bytes) -> None:
        if next(written, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        path.open("wb").write(data)

    Path.write_bytes = write_bytes  # type: ignore[method-assign, assignment]
    return decode_recordings(**arguments)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB, where the test may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_really_full_is_one_line(tiny_disk: Path) -> None:
    project = Project(tiny_disk)
    write_raw(project.raw, clips=1, n_frames=150)
    before = made_by(project)
    with pytest.raises(PipeError, match=r"No space left on device"):
        extract(extract_params(frames_per_second=1000), project)
    assert made_by(project) == before


def test_a_folder_that_cannot_be_written_is_an_error_of_the_system(
    filled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    before = made_by(filled)
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OSError, match="Read-only file system"):
        extract(extract_params(), filled)
    assert made_by(filled) == before


COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts in the background ignore it
from pathlib import Path
from pipeline.extract.stage import extract
from pipeline.base.project import Project
from pipeline.extract.params import ExtractParams
from pipeline.base.section import read_section
from pipeline.extract import decode_all
decode_all.CHILD = sys.argv[1]
extract(read_section(Path("params.yaml"), "extract", ExtractParams), Project(Path.cwd()))
"""


def decode_one_then_hang(**arguments: Any) -> object:
    """Run by a child: decode the first clip, and never the second."""
    if "PIPE_TEST_DECODED" in os.environ:
        time.sleep(600)
    os.environ["PIPE_TEST_DECODED"] = "1"
    return decode_recordings(**arguments)


@pytest.mark.parametrize(("sent", "had_frames"), [(signal.SIGINT, False), (signal.SIGKILL, True)])
def test_after_an_interruption_the_same_command_resumes_and_gives_the_same_bytes(
    project: Project, sent: signal.Signals, had_frames: bool
) -> None:
    write_raw(project.raw, clips=3)
    extract(extract_params(), project)
    undisturbed = made_by(project)
    shutil.rmtree(project.cache)
    if not had_frames:
        shutil.rmtree(project.frames)
        shutil.rmtree(project.fingerprints)
        project.frames_csv.unlink()
        project.extract_json.unlink()
    environment = os.environ | {"LOKY_MAX_CPU_COUNT": "2", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", COMMAND]
    process = subprocess.Popen(
        [*command, f"{__name__}:decode_one_then_hang"], cwd=project.root, env=environment, stderr=subprocess.PIPE
    )
    temporary = project.frames.parent / f".frames.{machine_digits()}-{process.pid}.tmp"
    deadline = time.monotonic() + 30
    while not entries(project) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert process.poll() is None
    process.send_signal(sent)
    _, chatter = process.communicate(timeout=20)
    assert process.returncode != 0, chatter
    assert temporary.exists() == (sent == signal.SIGKILL)
    assert {name: digest for name, digest in made_by(project).items() if ".tmp/" not in name} == (
        undisturbed if had_frames else {}
    )
    done = entries(project)
    assert 0 < len(done) < 6
    subprocess.run([*command, decode_all.CHILD], cwd=project.root, env=environment, check=True)
    assert made_by(project) == undisturbed
    assert len(entries(project)) == 6
    assert entries(project) | done == entries(project)  # none of these was decoded again
    assert not list((project.cache / "clips").glob(".*.tmp"))


# Videos outside a project.


def test_videos_by_themselves_become_a_folder_that_stands_alone(tmp_path: Path) -> None:
    clip, photo = write_clip(tmp_path / "walk.mp4"), write_photo(tmp_path / "stone.png")
    report = extract_files([clip, photo], tmp_path / "out", extract_params())
    rows = manifest.read(tmp_path / "out" / "frames.csv")
    assert [(row.path, row.label, row.source, row.group) for row in rows] == [
        ("stone.png.jpg", "stone", "stone.png", "stone.png"),
        ("walk.mp4/000000.jpg", "walk", "walk.mp4", "walk.mp4"),
        ("walk.mp4/000010.jpg", "walk", "walk.mp4", "walk.mp4"),
    ]
    assert set(everything_in(tmp_path / "out")) == {row.path for row in rows} | {"frames.csv", "extract.json"}
    assert str(tmp_path) not in (tmp_path / "out" / "extract.json").read_text(encoding="utf-8")
    assert report.headline == f"3 frames of 1 clip and 1 photo in {tmp_path / 'out'}/frames.csv"


def test_a_folder_of_its_own_making_is_replaced(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "walk.mp4")
    extract_files([clip], tmp_path / "out", extract_params(frames_per_second=5))
    extract_files([clip], tmp_path / "out", extract_params())
    assert len(list((tmp_path / "out" / "walk.mp4").iterdir())) == 2


@pytest.mark.parametrize("after_a_run", [False, True])
def test_a_folder_with_anything_else_in_it_is_left_alone(tmp_path: Path, after_a_run: bool) -> None:
    clip = write_clip(tmp_path / "walk.mp4")
    if after_a_run:
        extract_files([clip], tmp_path / "out", extract_params())
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "thesis.txt").write_text("years of work", encoding="utf-8")
    before = everything_in(tmp_path)
    with pytest.raises(DataError, match=r"holds thesis\.txt, which `pipe extract` did not write"):
        extract_files([clip], tmp_path / "out", extract_params())
    assert everything_in(tmp_path) == before


def test_git_ignores_the_frames_of_a_single_video(tmp_path: Path) -> None:
    def untracked() -> str:
        command = ["git", "status", "--porcelain", "--untracked-files=all"]
        return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True).stdout

    repository = tmp_path / "repository"
    subprocess.run(["git", "init", "--quiet", repository], check=True)
    clip = write_clip(tmp_path / "walk.mp4")
    for out in (repository / "walk_frames", repository / "deep" / "out", repository / "walk_frames"):
        extract_files([clip], out, extract_params())
    assert untracked() == ""
    (repository / "walk_frames" / ".gitignore").unlink()
    assert "walk_frames/frames.csv" in untracked()  # so the file is what makes git ignore them
    (repository / "deep" / "out" / ".gitignore").write_text("*.jpg\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"holds \.gitignore, which `pipe extract` did not write"):
        extract_files([clip], repository / "deep" / "out", extract_params())
    extract_files([clip], tmp_path / "elsewhere", extract_params())
    assert ".gitignore" not in everything_in(tmp_path / "elsewhere")


def test_bad_files_by_themselves_leave_no_folder(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video", encoding="utf-8")
    with pytest.raises(DataError, match="its content is not MP4"):
        extract_files([tmp_path / "bad.mp4"], tmp_path / "out", extract_params())
    with pytest.raises(DataError, match="No such file"):
        extract_files([tmp_path / "missing.mp4"], tmp_path / "out", extract_params())
    with pytest.raises(DataError, match="expected at least one"):
        extract_files([], tmp_path / "out", extract_params())
    assert set(everything_in(tmp_path)) == {"bad.mp4"}


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    for path in (Path("/dev/zero"), tmp_path):
        with pytest.raises(DataError, match=f"^{path}: not a file; expected a clip or a photo$"):
            extract_files([path], tmp_path / "out", extract_params(decode_timeout_seconds=2))


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    clips = [write_clip(tmp_path / folder / "walk.mp4") for folder in "ab"]
    with pytest.raises(DataError, match=r"walk\.mp4: 2 files have this name"):
        extract_files(clips, tmp_path / "out", extract_params())


# Real clips.


def test_every_frame_of_the_real_clips_is_counted(shared: Path, project: Project) -> None:
    project.raw.parent.mkdir()
    project.raw.symlink_to(shared / "data" / "clips")
    report = extract(extract_params(), project)
    table = (shared / "data" / "VIDEO_INDEX.tsv").read_text(encoding="utf-8").splitlines()
    columns, *lines = (line.split("\t") for line in table)
    known = {entry["file"]: entry for entry in (dict(zip(columns, line, strict=True)) for line in lines)}
    assert len(report.clips) == 14
    for clip in report.clips:
        entry = known[clip["source"].replace("data/raw/", "clips/")]
        assert clip["frames_found"] == int(entry["frames_decoded"])
        assert (clip["frames_promised"] or 0) == int(entry["frames_header"])
        assert (clip["width"], clip["height"]) == (int(entry["width"]), int(entry["height"]))
        assert clip["warnings"] == []
    assert {label: counts["frames"] for label, counts in report.classes.items()} == {
        "punch": 27, "talking_head": 12, "yoyo": 49,
    }  # fmt: skip
