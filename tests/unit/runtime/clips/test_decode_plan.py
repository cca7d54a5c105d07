from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from runtime.clips.clip import ClipInfo, Frame, open_clip
from runtime.clips.decode_plan import FramePicker, Wanted
from runtime.clips.demuxer import Bounds, DamagedClipError
from runtime.errors import ClipError
from tests.support.media import damage, read_barcode, write_coded

BOUNDS = Bounds(1_000_000, 60)
B_FRAMES = {"bf": "3", "g": "25", "preset": "veryfast"}
X265 = "log-level=error:pools=none:frame-threads=1:keyint=25:bframes=4"


def fingerprint(frame: Frame) -> tuple[int, float, int | None, str]:
    pixels = hashlib.sha256(frame.pixels_hwc.tobytes()).hexdigest()
    return frame.index, frame.time_seconds, read_barcode(frame.pixels_hwc), pixels


def decode(
    path: Path, wanted: Wanted, *, planned: bool = True, threads: int = 0
) -> tuple[list[tuple[int, float, int | None, str]], ClipInfo]:
    with open_clip(path, BOUNDS, strict=True) as clip:
        clip._packets = clip._packets if planned else None
        made = (
            clip.map_frames(wanted, fingerprint, threads=threads) if threads else map(fingerprint, clip.frames(wanted))
        )
        return list(made), clip.info()


def x265(more: str = "") -> dict[str, str]:
    return {"x265-params": X265 + more, "preset": "ultrafast"}


KINDS: dict[str, dict[str, Any]] = {
    "keyframe each second": {"options": {"bf": "0", "g": "25"}},
    "b frames": {"options": B_FRAMES},
    "keyframes at odd times": {"options": B_FRAMES | {"g": "17"}},
    "one long group": {"options": B_FRAMES | {"g": "250"}},
    "open groups": {"options": B_FRAMES | {"x264-params": "open-gop=1:b-pyramid=normal"}},
    "refresh without keyframes": {"options": {"x264-params": "intra-refresh=1:keyint=25", "preset": "veryfast"}},
    "interlaced": {"options": B_FRAMES | {"flags": "+ildct+ilme"}},
    "10 bit 4:2:2": {"options": B_FRAMES, "pixels": "yuv422p10le"},
    "variable rate": {"options": B_FRAMES, "times_ms": [40 * number + number**2 // 3 for number in range(80)]},
    "edit list": {"options": B_FRAMES, "times_ms": [40 * (number - 12) for number in range(90)]},
    "late start": {"options": B_FRAMES, "times_ms": [5000 + 40 * number for number in range(60)]},
    "hevc": {"codec": "libx265", "options": x265(":open-gop=0")},
    "hevc, open groups": {"codec": "libx265", "options": x265(":open-gop=1")},
    "hevc, temporal layers": {"codec": "libx265", "options": x265(":temporal-layers=3:b-adapt=0")},
}
ASKED = [
    Wanted(1),
    Wanted(3, start_seconds=0.5, end_seconds=2.2),
    Wanted(1, every_n_frames=7),
    Wanted(1000, max_frames=30),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_gives_the_frames_of_a_full_decode(tmp_path: Path, kind: str) -> None:
    clip = write_coded(tmp_path / "clip.mp4", **KINDS[kind])
    for wanted in ASKED:
        whole, whole_info = decode(clip, wanted, planned=False)
        planned, info = decode(clip, wanted)
        assert planned == whole == decode(clip, wanted, threads=2)[0]
        assert None not in {number for _, _, number, _ in planned}
        assert whole_info.frames_decoded == info.frames_found == whole_info.frames_found
        # Deinterlacing takes the neighbours of a frame, so it decodes all.
        assert (info.frames_decoded < whole_info.frames_decoded) == (kind != "interlaced")
        assert (info.frames_hidden, info.warnings) == (whole_info.frames_hidden, ())
        assert info.duration_seconds == pytest.approx(whole_info.duration_seconds)


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_in_the_picture_is_that_of_the_wanted_time(tmp_path: Path, kind: str) -> None:
    clip = write_coded(tmp_path / "clip.mp4", **KINDS[kind])
    times_ms = KINDS[kind].get("times_ms") or [40 * number for number in range(100)]
    shown = [(number, time_ms) for number, time_ms in enumerate(times_ms) if time_ms >= 0]
    first, start = shown[0]
    expected = {
        next((number for number, time_ms in shown if time_ms - start >= 1000 * k), None)
        for k in range((times_ms[-1] - start) // 1000 + 1)
    }
    made, _ = decode(clip, Wanted(1))
    assert {number for _, _, number, _ in made} == expected
    assert [time for _, time, _, _ in made] == [(times_ms[number or 0] - start) / 1000 for _, _, number, _ in made]
    assert [index for index, _, _, _ in made] == [(number or 0) - first for _, _, number, _ in made]


TURNS = [
    (1, 0, 0, 1),
    (0, 1, -1, 0),
    (-1, 0, 0, -1),
    (0, -1, 1, 0),
    (-1, 0, 0, 1),
    (1, 0, 0, -1),
    (0, 1, 1, 0),
    (0, -1, -1, 0),
]


@pytest.mark.parametrize("turned", TURNS)
def test_a_picture_reads_upright_whichever_way_it_was_stored(tmp_path: Path, turned: tuple[int, int, int, int]) -> None:
    clip = write_coded(tmp_path / "clip.mp4", options=B_FRAMES, turned=turned)
    made, _ = decode(clip, Wanted(1))
    assert [number for _, _, number, _ in made] == [0, 25, 50, 75]


def test_a_picture_that_is_not_turned_reads_as_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_coded(tmp_path / "clip.mp4", options=B_FRAMES, turned=(0, 1, -1, 0))
    monkeypatch.setattr("runtime.clips.to_rgb._display_matrix", lambda frame: (1, 0, 0, 1))
    made, _ = decode(clip, Wanted(1))
    assert {number for _, _, number, _ in made} == {None}


def test_of_phone_like_clips_only_the_keyframes_are_decoded(tmp_path: Path) -> None:
    clip = write_coded(tmp_path / "clip.mp4", options={"bf": "0", "g": "25"})
    assert decode(clip, Wanted(1))[1].frames_decoded == 4


@pytest.mark.parametrize("name", ["clip.ts", "clip.mkv"])
def test_where_packets_state_too_little_everything_is_decoded(tmp_path: Path, name: str) -> None:
    made, info = decode(write_coded(tmp_path / name, options=B_FRAMES), Wanted(1))
    assert [number for _, _, number, _ in made] == [0, 25, 50, 75]
    assert info.frames_decoded == 100


def test_damage_in_what_a_plan_needs_is_noticed(tmp_path: Path) -> None:
    clip = write_coded(tmp_path / "clip.mp4", options={"bf": "0", "g": "25", "crf": "5"})
    damage(clip, flipped=200)
    with pytest.raises(DamagedClipError):
        decode(clip, Wanted(1000))


def test_times_that_contradict_one_another_give_a_warning(tmp_path: Path) -> None:
    clip = write_coded(tmp_path / "clip.avi", options=B_FRAMES)  # a container without presentation times
    made, info = decode(clip, Wanted(1000))
    assert any("earlier than the one before" in warning for warning in info.warnings)
    assert len({number for _, _, number, _ in made}) == len(made)


def takes(wanted: Wanted, *times: float) -> list[float]:
    picker = FramePicker(wanted)
    return [time for time in times if picker.takes(Fraction(str(time)))]


def test_frames_are_chosen_by_their_times() -> None:
    tenths = [number / 10 for number in range(40)]
    assert takes(Wanted(1), *tenths) == [0, 1, 2, 3]
    assert takes(Wanted(1, start_seconds=0.25), *tenths) == [0.3, 1.3, 2.3, 3.3]
    assert takes(Wanted(1, end_seconds=2), *tenths) == [0, 1]
    assert takes(Wanted(2, max_frames=3), *tenths) == [0, 0.5, 1]
    assert takes(Wanted(1, every_n_frames=15, start_seconds=0.5), *tenths) == [0.5, 2.0, 3.5]
    assert takes(Wanted(1), 0, 5, 5.1, 6) == [0, 5, 6]


def test_no_frame_is_taken_twice_and_none_from_the_past() -> None:
    assert takes(Wanted(1000), 0, 0.1, 0.1, 0.3, 0.2, 0.4) == [0, 0.1, 0.3, 0.4]
    assert takes(Wanted(1, every_n_frames=1), 0, 0.1, 0.3, 0.2, 0.4) == [0, 0.1, 0.3, 0.4]


def test_a_window_without_frames_is_refused(tmp_path: Path) -> None:
    clip = write_coded(tmp_path / "clip.mp4", options=B_FRAMES)
    for planned in (True, False):
        with pytest.raises(ClipError, match=r"no frame between .*; the clip lasts 4\.0 seconds"):
            decode(clip, Wanted(1, start_seconds=9), planned=planned)
