from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.base import manifest
from pipeline.base.child_process import ChildCrashedError, run_in_child
from pipeline.base.project import Project
from pipeline.extract.child import Outcome, Settings, decode_recordings
from pipeline.extract.decode_all import Limits, ParallelDecoder
from pipeline.extract.stage import extract
from pipeline.media.recordings import Recording
from runtime.clips.decode_plan import Wanted
from tests.support.crashing_decoder import CRASHING_CHILD
from tests.support.extraction import decoded_by, entries, extract_params, made_by, refusal
from tests.support.media import write_clip, write_photo, write_raw

SETTINGS = Settings(Wanted(1), ".jpg", 95, 10**6, 60, 1)
DECODER = ParallelDecoder(SETTINGS, Limits(600, 4 * 10**9), root=None, cache=None)


def test_outcomes_come_in_the_order_of_the_recordings_with_errors_in_their_place(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video", encoding="utf-8")
    files = [write_photo(tmp_path / "b.png"), tmp_path / "bad.mp4", write_clip(tmp_path / "a.mp4")]
    photo, bad, clip = DECODER.decode([Recording(file, file.name, "a") for file in files], tmp_path / "out")
    assert [picture.path for picture in photo.pictures] == ["b.png.jpg"]
    assert not bad.pictures
    assert bad.error.startswith(f"{files[1]}: its content is not MP4")
    assert [picture.path for picture in clip.pictures] == ["a.mp4/000000.jpg", "a.mp4/000010.jpg"]


# Children that crash.


def test_what_a_crashed_decoder_wrote_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [write_clip(tmp_path / name) for name in ("whole.mp4", "other.mp4")]
    monkeypatch.setattr("pipeline.extract.decode_all.CHILD", CRASHING_CHILD)
    (tmp_path / "out").mkdir()
    dead, alive = DECODER.decode([Recording(clip, clip.name, "a") for clip in clips], tmp_path / "out")
    assert dead == Outcome(damage="decoder crashed (signal 11); delete or re-copy the file")
    assert len(alive.pictures) == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["other.mp4"]


def take(megabytes: int) -> int:
    """Run by a child: allocate memory."""
    return len(np.empty(megabytes * 1_000_000, np.uint8))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not count what is mapped")
def test_a_decoder_that_wants_too_much_memory_is_one_line() -> None:
    def run(max_bytes: int | None) -> object:
        return run_in_child(
            f"{__name__}:take", {"megabytes": 900}, subject="clip.mp4", timeout_seconds=600, max_bytes=max_bytes
        )

    assert run(None) == run(2 * 10**9) == 900_000_000
    with pytest.raises(ChildCrashedError, match=r"^clip\.mp4: decoding needed more memory than 0\.5 GB"):
        run(500_000_000)


def decode_or_crash(sources: list[tuple[str, str]], **others: Any) -> object:
    """Run by a child: crash if the name of a recording has "deadly" in it."""
    if any("deadly" in name for _, name in sources):
        os.kill(os.getpid(), signal.SIGSEGV)
    return decode_recordings(sources, **others)


def test_a_photo_that_crashes_the_decoder_costs_only_itself(filled: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fine.png", "deadly.png", "good.png"):
        write_photo(filled.raw / "brick" / name)
    monkeypatch.setattr("pipeline.extract.decode_all.CHILD", f"{__name__}:decode_or_crash")
    report = extract(extract_params(), filled)
    assert report.left_out == {"data/raw/brick/deadly.png": "decoder crashed (signal 11); delete or re-copy the file"}
    assert report.n_photos == 2


def test_a_decoder_that_hangs_costs_one_line(filled: Project) -> None:
    assert refusal(filled, decode_timeout_seconds=0.01).startswith("data/raw/brick/clip_1.mp4: decoding took more than")


# The cache of clips.


def test_a_clip_more_among_twenty_is_the_only_one_decoded(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    write_raw(project.raw, clips=10, n_frames=3)
    asked = decoded_by(monkeypatch)
    extract(extract_params(), project)
    assert len(asked) == 20
    before = made_by(project)
    asked.clear()
    write_clip(project.raw / "brick" / "a new one.mp4", n_frames=40)
    extract(extract_params(), project)
    assert asked == ["brick/a new one.mp4"]
    made = made_by(project)
    assert {name: made[name] for name in before if name.endswith(".jpg")} == {
        name: digest for name, digest in before.items() if name.endswith(".jpg")
    }


def test_the_cache_depends_neither_on_the_suffix_of_a_clip_nor_on_the_thresholds(
    filled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = decoded_by(monkeypatch)
    extract(extract_params(), filled)
    assert len(asked) == 2
    asked.clear()
    clip = filled.raw / "brick" / "clip_1.mp4"
    shutil.copy(clip, filled.raw / "brick" / "copy.jpg")
    assert extract(extract_params(), filled).misnamed == {"data/raw/brick/copy.jpg": "video named .jpg"}
    clip.unlink()
    nothing_bright = extract_params().screening.model_dump() | {"max_brightness": 0.0, "min_brightness": 0.0}
    assert refusal(filled, screening=nothing_bright).startswith("class 'brick': screening kept none of its 3 frames")
    extract(extract_params(screening=nothing_bright, keep_all=True), filled)
    assert all(row.kept for row in manifest.read(filled.frames_csv))
    assert asked == []
    extract(extract_params(frames_per_second=2), filled)  # the negative control: other frames
    assert len(asked) == 2


def test_a_photo_with_the_suffix_of_a_clip_is_not_cached(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for label in "ab":
        write_photo(project.raw / label / "photo.png", 3).rename(project.raw / label / "photo.mp4")
    asked = decoded_by(monkeypatch)
    for _ in range(2):
        assert extract(extract_params(), project).n_photos == 2
    assert asked == 2 * ["a/photo.mp4", "b/photo.mp4"]
    assert entries(project) == {}


def test_clips_of_one_content_are_decoded_once_and_a_new_name_costs_nothing(
    filled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = filled.raw / "brick" / "clip_1.mp4"
    shutil.copy(clip, filled.raw / "brick" / "again.mp4")
    asked = decoded_by(monkeypatch)
    extract(extract_params(), filled)
    assert sorted(asked) == ["brick/again.mp4", "砾石/clip_1.mp4"]
    assert [path.name for path in sorted((filled.frames / "brick").iterdir())] == ["again.mp4", "clip_1.mp4"]
    asked.clear()
    clip.rename(clip.with_name("renamed.mp4"))
    extract(extract_params(), filled)
    assert asked == []
    assert {row.source for row in manifest.read(filled.frames_csv)} >= {"data/raw/brick/renamed.mp4"}
    made = made_by(filled)
    shutil.rmtree(filled.cache)
    extract(extract_params(), filled)
    assert made_by(filled) == made
    asked.clear()
    extract(extract_params(jpeg_quality=90), filled)  # the negative control: other params, other bytes
    assert len(asked) == 2


def test_the_clip_of_a_cached_frame_that_was_changed_is_decoded_again(
    filled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(extract_params(), filled)
    undisturbed = made_by(filled)
    frame = filled.frames / "brick" / "clip_1.mp4" / "000010.jpg"
    assert frame.stat().st_nlink == 2
    with frame.open("r+b") as file:
        file.write(b"painted over")
    asked = decoded_by(monkeypatch)
    extract(extract_params(), filled)
    assert asked == ["brick/clip_1.mp4"]
    assert made_by(filled) == undisturbed


def test_where_the_file_system_refuses_links_frames_are_copied(
    filled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    extract(extract_params(), filled)
    linked = made_by(filled)
    monkeypatch.setattr(os, "link", refuse)
    extract(extract_params(), filled)
    assert made_by(filled) == linked
    assert (filled.frames / "brick" / "clip_1.mp4" / "000010.jpg").stat().st_nlink == 1
