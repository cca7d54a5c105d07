"""Damage costs no more than it must, and is never passed over in silence."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipeline.base.child_process import ChildCrashedError, run_in_child
from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.extract.child import Settings, record
from pipeline.extract.decode_all import Limits, Recorder
from pipeline.extract.params import ExtractParams
from pipeline.extract.stage import ExtractReport, extract, extract_files
from pipeline.media.clip import ClipInfo, open_clip
from pipeline.media.decode_plan import Wanted
from pipeline.media.demuxer import Bounds
from pipeline.media.recordings import Recording
from tests.support.command import ROOT
from tests.support.media import damage, picture, write_clip, write_raw

RATE = 10


def params(**changes: Any) -> ExtractParams:
    defaults = read_section(ROOT / "params.yaml", "extract", ExtractParams)
    return ExtractParams.model_validate(defaults.model_dump() | {"frames_per_second": 10} | changes)


def write_intra(path: Path, *options: str, n_frames: int = 20) -> Path:
    """A clip of which each frame stands alone, so that damage in one stays there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=RATE, options={"g": "1", "crf": "10", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        generator = np.random.default_rng(0)
        for number in range(n_frames):
            grainy = (picture(number) + generator.normal(0, 20, (48, 64, 1))).clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grainy, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def spoil(path: Path, number: int) -> Path:
    """Overwrite the slice of one frame."""
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    start, size = packets[number]
    data = bytearray(path.read_bytes())
    data[start + size // 2 : start + size] = b"\xff" * (size - size // 2)
    path.write_bytes(data)
    return path


def info_of(path: Path, *, strict: bool) -> ClipInfo:
    with open_clip(path, Bounds(10**6, 60), strict=strict) as clip:
        list(clip.frames(Wanted(1000)))
        return clip.info()


# When it begins.


@pytest.mark.parametrize("number", [0, 7, 19])
def test_the_time_of_the_first_damage_is_that_of_the_first_frame_that_is_damaged(tmp_path: Path, number: int) -> None:
    clip = spoil(write_intra(tmp_path / "clip.mp4"), number)
    info = info_of(spoil(clip, 19), strict=False)
    assert info.first_damage_seconds == pytest.approx(number / RATE)
    assert any(f"damage begins at {number / RATE:.2f} s" in warning for warning in info.warnings)


def test_an_undamaged_clip_has_no_time_of_damage(tmp_path: Path) -> None:
    for strict in (True, False):
        info = info_of(write_intra(tmp_path / "clip.mp4"), strict=strict)
        assert (info.first_damage_seconds, info.warnings) == (None, ())


def test_fewer_frames_than_promised_are_damage_from_where_they_end(tmp_path: Path) -> None:
    info = info_of(damage(write_intra(tmp_path / "clip.mp4"), share_kept=0.5), strict=False)
    assert 0 < info.frames_found < 20
    assert f"{info.frames_found} of 20 frames promised" in info.warnings
    assert info.first_damage_seconds is not None
    assert info.first_damage_seconds == pytest.approx(info.frames_found / RATE, abs=1 / RATE)


# What is done about it.


@pytest.fixture
def mixed(project: Project) -> Project:
    """A class of two whole clips, and one of a whole clip and a damaged one."""
    write_raw(project.raw, ("brick",), clips=2)
    write_intra(project.raw / "sand" / "whole.mp4")
    spoil(write_intra(project.raw / "sand" / "hurt.mp4"), 7)
    return project


def sources_with_frames(project: Project) -> list[str]:
    return sorted({path.parent.name for path in project.frames.rglob("*.jpg")})


def test_keep_keeps_what_decodes_and_says_when_damage_begins(mixed: Project) -> None:
    report = extract(params(on_damage="keep"), mixed)
    assert sources_with_frames(mixed) == ["clip_1.mp4", "clip_2.mp4", "hurt.mp4", "whole.mp4"]
    hurt = {Path(clip["source"]).name: clip["first_damage_seconds"] for clip in report.clips}
    assert hurt == {"clip_1.mp4": None, "clip_2.mp4": None, "hurt.mp4": pytest.approx(0.7), "whole.mp4": None}
    assert report.left_out == {}
    assert report.headline.endswith("; 1 clips with warnings")


def test_drop_leaves_damaged_clips_out_and_no_other(mixed: Project) -> None:
    report = extract(params(on_damage="drop"), mixed)
    assert sources_with_frames(mixed) == ["clip_1.mp4", "clip_2.mp4", "whole.mp4"]
    assert [path.name for path in (mixed.frames / "sand").iterdir()] == ["whole.mp4"]
    ((source, line),) = report.left_out.items()
    assert source == "data/raw/sand/hurt.mp4"
    assert "damage begins at 0.70 s" in line
    assert report.headline.endswith("; 1 left out as damaged")
    again = extract(params(on_damage="keep"), mixed)  # the policy is no part of what is kept of a clip
    assert len(again.clips) == 4


def test_fail_names_the_damaged_clip_and_leaves_nothing(mixed: Project) -> None:
    with pytest.raises(DataError, match=r"^data/raw/sand/hurt\.mp4: .*damage begins at 0\.70 s$"):
        extract(params(on_damage="fail"), mixed)
    assert not mixed.frames.exists()
    (mixed.raw / "sand" / "hurt.mp4").unlink()
    assert extract(params(on_damage="fail"), mixed).left_out == {}  # the negative control


def test_dropping_empties_no_class(mixed: Project) -> None:
    (mixed.raw / "sand" / "whole.mp4").unlink()
    with pytest.raises(DataError, match=r"^data/raw/sand/hurt\.mp4: .*damage begins at 0\.70 s$"):
        extract(params(on_damage="drop"), mixed)
    assert len(extract(params(on_damage="keep"), mixed).clips) == 3


def test_a_clip_of_which_nothing_decodes_is_left_out_with_its_line(mixed: Project) -> None:
    damage(write_intra(mixed.raw / "sand" / "stump.mp4"), share_kept=0.01)
    report = extract(params(), mixed)
    assert list(report.left_out) == ["data/raw/sand/stump.mp4"]
    assert report.left_out["data/raw/sand/stump.mp4"].startswith("cannot be opened as a video (Invalid data")


# Decoders that die.


def record_or_die(sources: list[tuple[str, str]], **others: Any) -> object:
    """Run by a child: writes its pictures, then crashes over one clip."""
    made = record(sources, **others)
    if any("whole" in name for _, name in sources):
        os.kill(os.getpid(), signal.SIGSEGV)
    return made


def crashed(project: Project, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> ExtractReport:
    monkeypatch.setattr("pipeline.extract.decode_all.CHILD", f"{__name__}:record_or_die")
    return extract(params(**changes), project)


def test_a_decoder_that_crashes_costs_one_clip_and_one_line(mixed: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    report = crashed(mixed, monkeypatch)
    assert report.left_out == {
        "data/raw/sand/whole.mp4": "decoder crashed (signal 11); delete or re-copy the file",
    }
    assert sources_with_frames(mixed) == ["clip_1.mp4", "clip_2.mp4", "hurt.mp4"]


def test_a_decoder_that_crashes_fails_the_run_where_damage_does(
    mixed: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mixed.raw / "sand" / "hurt.mp4").unlink()
    with pytest.raises(DataError, match=r"whole\.mp4: decoder crashed \(signal 11\); delete or re-copy the file$"):
        crashed(mixed, monkeypatch, on_damage="fail")


def test_what_a_dead_decoder_wrote_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [write_clip(tmp_path / name) for name in ("whole.mp4", "other.mp4")]
    monkeypatch.setattr("pipeline.extract.decode_all.CHILD", f"{__name__}:record_or_die")
    (tmp_path / "out").mkdir()
    recorder = Recorder(Settings(Wanted(1), ".jpg", 95, 10**6, 60, 1), Limits(600, 4 * 10**9), None, None)
    dead, alive = recorder.record([Recording(clip, clip.name, "a") for clip in clips], tmp_path / "out")
    assert not isinstance(dead, str)
    assert not isinstance(alive, str)
    assert (dead["pictures"], len(alive["pictures"])) == ([], 2)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["other.mp4"]


def take(megabytes: int) -> int:
    """Run by a child."""
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


# Files that name other files.


class Canary:
    """Watches whether a file is opened, by any process."""

    def __init__(self, path: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._watch = self._libc.inotify_init1(os.O_NONBLOCK)
        assert self._libc.inotify_add_watch(self._watch, os.fsencode(path), 0x20) >= 0  # IN_OPEN

    def was_opened(self) -> bool:
        try:
            return len(os.read(self._watch, 4096)) >= struct.calcsize("iIII")
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._watch)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    """Watches `canary.mp4`, a clip."""
    if sys.platform != "linux":
        pytest.skip("inotify is Linux's")
    watching = Canary(write_clip(tmp_path / "canary.mp4", n_frames=3))
    yield watching
    watching.close()


LIARS = {
    "ffconcat": "ffconcat version 1.0\nfile canary.mp4\n",
    "HLS": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\ncanary.mp4\n#EXT-X-ENDLIST\n",
    "DASH": '<?xml version="1.0"?>\n<MPD type="static"><Period><AdaptationSet><Representation id="0">'
    "<BaseURL>canary.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>\n",
    "VobSub": "# VobSub index file, v7\nsize: 64x48\nid: en, index: 0\nfile: canary.mp4\n",
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=file:canary.mp4\nm=video 1 RTP/AVP 96\n",
}


@pytest.mark.parametrize("kind", LIARS)
def test_a_file_that_names_another_is_refused_and_opens_none(canary: Canary, tmp_path: Path, kind: str) -> None:
    liar = tmp_path / "liar.mp4"
    liar.write_text(LIARS[kind], encoding="utf-8")
    with pytest.raises(DataError, match=r"liar\.mp4: its content is not MP4, MOV"):
        extract_files([liar], tmp_path / "out", params())
    assert not canary.was_opened()
    assert not (tmp_path / "out").exists()


def test_the_canary_sings_where_a_demuxer_follows_a_name(canary: Canary, tmp_path: Path) -> None:
    liar = tmp_path / "liar.mp4"
    liar.write_text(LIARS["ffconcat"], encoding="utf-8")
    with av.open(str(liar)) as container:  # what extract would do if it let FFmpeg guess
        next(container.decode(video=0))
    assert canary.was_opened()
