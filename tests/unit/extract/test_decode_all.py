from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.base import manifest
from pipeline.base.child_process import ChildCrashedError, run_in_child
from pipeline.base.files import sha256_of
from pipeline.base.project import Project
from pipeline.extract.child import Outcome, Settings, decode_recordings
from pipeline.extract.clip_cache import ClipCache
from pipeline.extract.decode_all import Limits, ParallelDecoder
from pipeline.extract.stage import extract
from pipeline.media.recordings import Recording
from runtime.clips.decode_plan import Wanted
from tests.support.crashing_decoder import CRASHING_CHILD
from tests.support.extraction import decoded_by, entries, everything_in, extract_params, made_by, refusal
from tests.support.media import damage, write_clip, write_photo, write_raw

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


# A child that decodes clip after clip.


def decode_and_note(sources: list[tuple[str, str]], frames: str, **others: Any) -> object:
    """Run by a child: note its process id, its open files and its memory after each call."""
    outcomes = decode_recordings(sources, frames, **others)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kilobytes = next(line for line in status.splitlines() if line.startswith("VmData")).split()[1]
    with Path(frames).parent.joinpath("log").open("a", encoding="utf-8") as log:
        log.write(f"{os.getpid()} {len(list(Path('/proc/self/fd').iterdir()))} {kilobytes}\n")
    return outcomes


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /proc")
def test_a_child_decodes_clip_after_clip_and_leaks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    monkeypatch.setattr("pipeline.extract.decode_all.CHILD", f"{__name__}:decode_and_note")
    clip = write_clip(tmp_path / "clip.mp4", n_frames=20, sides=(640, 480))
    names = [f"{number}.mp4" for number in range(40)]
    DECODER.decode([Recording(clip, name, "a") for name in names], tmp_path / "out")
    served = [line.split() for line in (tmp_path / "log").read_text(encoding="utf-8").splitlines()]
    assert len(served) == 40
    processes, open_files, kilobytes = zip(*served, strict=True)
    assert len(set(processes)) == len(set(open_files)) == 1
    assert int(kilobytes[-1]) - int(kilobytes[9]) < 20_000  # an uncompressed frame has 900 kB


def test_neither_order_nor_neighbours_of_a_clip_change_its_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    files = [write_clip(tmp_path / f"{number}.mkv", n_frames=20 + number, noise=20) for number in range(3)]
    files.insert(1, damage(write_clip(tmp_path / "harmed.mkv", n_frames=40, sides=(320, 240), noise=20), flipped=30))
    recordings = [Recording(file, file.name, "a") for file in files]
    alone = [outcome for recording in recordings for outcome in DECODER.decode([recording], tmp_path / "alone")]
    together = DECODER.decode(recordings[::-1], tmp_path / "together")[::-1]
    assert together == alone
    assert "damage begins" in together[1].damage
    assert everything_in(tmp_path / "together") == everything_in(tmp_path / "alone")


def decode_once(sources: list[tuple[str, str]], **others: Any) -> object:
    """Run by a child: crash in the second call, as a library does whose memory an earlier clip has harmed."""
    if os.environ.get("PIPE_TEST_SERVED"):
        os.kill(os.getpid(), signal.SIGSEGV)
    os.environ["PIPE_TEST_SERVED"] = "1"
    return decode_recordings(sources, **others)


def test_a_clip_is_not_blamed_for_a_crash_that_an_earlier_clip_caused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    monkeypatch.setattr("pipeline.extract.decode_all.CHILD", f"{__name__}:decode_once")
    clips = [write_clip(tmp_path / f"{number}.mp4") for number in range(3)]
    outcomes = DECODER.decode([Recording(clip, clip.name, "a") for clip in clips], tmp_path / "out")
    assert [(outcome.damage, len(outcome.pictures)) for outcome in outcomes] == [("", 2)] * 3


def test_the_digest_of_a_clip_is_the_same_with_and_without_a_cache(filled: Project, tmp_path: Path) -> None:
    clip = filled.raw / "brick" / "clip_1.mp4"
    recordings = [Recording(clip, clip.name, "a")]
    (outcome,) = DECODER.decode(recordings, tmp_path / "out")
    (cached,) = replace(DECODER, cache=ClipCache(tmp_path / "clips")).decode(recordings, tmp_path / "linked")
    assert outcome == cached
    assert outcome.sha256 == sha256_of(clip)


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


def test_a_cache_that_was_tampered_with_costs_a_decode_and_brings_nothing_in(
    filled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(extract_params(), filled)
    undisturbed = made_by(filled)
    secret = filled.root.parent / "secret.txt"
    secret.write_text("nobody's frame", encoding="utf-8")
    broken, pointing = (path.parent for path in sorted((filled.cache / "clips").glob("*/recorded.json")))
    (broken / "recorded.json").write_text("{}", encoding="utf-8")
    picture = next(pointing.rglob("000010.jpg"))
    picture.unlink()
    picture.symlink_to(secret)
    asked = decoded_by(monkeypatch)
    extract(extract_params(), filled)
    assert sorted(asked) == ["brick/clip_1.mp4", "砾石/clip_1.mp4"]
    assert made_by(filled) == undisturbed
    assert secret.stat().st_nlink == 1


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
