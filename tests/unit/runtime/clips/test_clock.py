"""Clocks that jump, restart or stand: the times go on, and a warning names the place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest

from runtime.clips.clip import open_clip
from runtime.clips.clock import Clock
from runtime.clips.decode_plan import Wanted
from runtime.clips.demuxer import Bounds
from tests.support.clips import decode_clip, refusal_of_clip
from tests.support.media import number_in, picture, write_clip, write_intra

THREE_HOURS = 10_800_000  # milliseconds


def clock(times: Sequence[int | None], rate: int | None = 10, demuxer: str = "mov") -> tuple[list[float], Clock]:
    """The times of frames that state these, in hundredths of a second."""
    stream: Any = SimpleNamespace(
        time_base=Fraction(1, 100), average_rate=rate and Fraction(rate), duration=None, frames=0
    )
    made = Clock(stream, demuxer)
    frames: list[Any] = [SimpleNamespace(pts=time, duration=0) for time in times]
    following = [*frames[1:], None]
    return [float(made.time_of(frame, after)) for frame, after in zip(frames, following, strict=True)], made


def test_a_frame_without_a_time_follows_the_one_before_it() -> None:
    assert clock([None, None, None])[0] == pytest.approx([0, 0.1, 0.2])
    assert clock([None, None], rate=None)[0] == pytest.approx([0, 0.04])
    times, made = clock([500, 510, None, 530])
    assert times == pytest.approx([0, 0.1, 0.2, 0.3])
    assert made.n_without_time == 1


def test_a_frame_that_is_early_is_counted_and_starts_no_new_clock() -> None:
    times, made = clock([0, 100, 200, 50, 300])
    assert times == pytest.approx([0, 1, 2, 0.5, 3])
    assert (made.n_backward, made.breaks) == (1, [])
    assert float(made.end) == pytest.approx(3.1)


@pytest.mark.parametrize(
    ("stated", "expected", "n_breaks"),
    [
        ([0, 10, 20, 108020, 108030], [0, 0.1, 0.2, 0.3, 0.4], 1),
        ([0, 108000, 108010, 108020], [0, 0.1, 0.2, 0.3], 1),  # after the very first frame
        ([0, 10, 20, 108020], [0, 0.1, 0.2, 0.3], 1),
        ([100, 110, 120, 0, 10, 20], [0, 0.1, 0.2, 0.3, 0.4, 0.5], 1),
        ([100, 110, 0, 10, 500000, 500010, 20, 30], [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], 3),
        ([0, 10, 20, 2020, 2030], [0, 0.1, 0.2, 20.2, 20.3], 0),  # a true pause
        ([0, 100000, 200000, 300000], [0, 1000, 2000, 3000], 0),  # one frame each quarter of an hour
    ],
)
def test_times_go_on_where_the_clock_jumps_or_restarts(
    stated: list[int | None], expected: list[float], n_breaks: int
) -> None:
    times, made = clock(stated)
    assert times == pytest.approx(expected)
    assert len(made.breaks) == n_breaks


def test_in_a_transport_stream_twenty_seconds_are_a_jump() -> None:
    assert clock([0, 10, 20, 2020, 2030], demuxer="mpegts")[0] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_frames_that_state_one_time_are_spaced_by_the_rate() -> None:
    times, made = clock([500] * 5)
    assert times == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert made.n_standing == 4
    assert clock([0, 0, 0, 0, 100, 100, 100, 200])[0] == pytest.approx([0, 0.1, 0.2, 0.3, 1, 1.1, 1.2, 2])
    assert clock([0, 10, 10, 20])[0] == pytest.approx([0, 0.1, 0.1, 0.2])  # two of one time are left as they are


def with_jump(n_frames: int = 30) -> list[int]:
    """Times in milliseconds of frames at 10 per second; the clock jumps after half of them."""
    return [100 * number + (THREE_HOURS if number >= n_frames // 2 else 0) for number in range(n_frames)]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".ts"])
@pytest.mark.parametrize("strict", [True, False])
def test_a_clip_whose_clock_jumps_is_no_longer_than_its_frames(suffix: str, strict: bool, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / f"clip{suffix}", times_ms=with_jump())
    frames, info = decode_clip(clip, 1, strict=strict)
    assert [(frame.index, number_in(frame.pixels_hwc)) for frame in frames] == [(0, 0), (10, 10), (20, 20)]
    assert [frame.time_seconds for frame in frames] == pytest.approx([0, 1, 2], abs=1e-3)
    assert info.duration_seconds == pytest.approx(3, abs=0.1)
    (warning,) = info.warnings
    assert re.fullmatch(
        r"its clock jumps forward by 10800\.1 s after 1\.(44|50) s; the times go on from there", warning
    )


def test_a_plan_and_a_whole_decode_give_the_same_times(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", times_ms=with_jump())
    by_plan, by_whole = (decode_clip(clip, strict=strict)[0] for strict in (True, False))
    assert [frame.time_seconds for frame in by_plan] == [frame.time_seconds for frame in by_whole]
    with open_clip(clip, Bounds(10_000, 60), strict=True) as opened:
        list(opened.frames(Wanted(1)))
        assert opened.info().frames_decoded < 30  # by plan indeed


def test_a_clip_that_is_too_long_is_refused_although_its_clock_jumps(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", times_ms=with_jump())
    assert refusal_of_clip(clip, bounds=Bounds(10_000, 2)).startswith("lasts more than 2 seconds")
    assert len(decode_clip(clip, bounds=Bounds(10_000, 3.5))[0]) == 30


@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
def test_joined_streams_are_one_clip(suffix: str, tmp_path: Path) -> None:
    clips = [tmp_path / f"{part}{suffix}" for part in ("first", "second", "third")]
    for clip in clips:
        write_mpeg2(clip)
    joined = tmp_path / f"joined{suffix}"
    joined.write_bytes(b"".join(clip.read_bytes() for clip in clips))
    frames, info = decode_clip(joined, 1)
    assert len(frames) == 6
    assert [frame.time_seconds for frame in frames] == pytest.approx(range(6), abs=0.1)
    assert info.frames_found == 150
    assert info.first_damage_seconds is None
    assert info.warnings == ("its clock jumps or restarts 2 times, first after 2.00 s; the times go on from there",)
    assert decode_clip(clips[0], 1)[1].warnings == ()  # the negative control


def write_mpeg2(path: Path) -> None:
    """Two seconds of MPEG-2, 25 frames per second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(50):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("strict", [True, False])
def test_a_clip_of_one_time_gives_frames_by_the_mean_rate(strict: bool, tmp_path: Path) -> None:
    clip = write_intra(tmp_path / "clip.mp4", 25)
    data = bytearray(clip.read_bytes())
    table = data.index(b"stts") + 8  # version and flags lie before the number of entries
    entries = range(table + 8, table + 8 + 8 * int.from_bytes(data[table : table + 4], "big"), 8)
    for entry in entries:
        data[entry : entry + 4] = bytes(4)
    clip.write_bytes(data)
    frames, info = decode_clip(clip, 1, strict=strict)
    assert [(frame.index, frame.time_seconds) for frame in frames] == [(0, 0), (10, 1), (20, 2)]
    assert info.warnings == ("24 frames with the time of the one before them; spaced as at 10 frames per second",)


@pytest.mark.parametrize(
    ("name", "indices", "warning"),
    [
        ("v01_concat.ts", [0, 30, 60, 90, 120, 150], "its clock restarts after 3.00 s; the times go on from there"),
        ("v15_zerodelta.mp4", [0, 30, 60], "89 frames with the time of the one before them; spaced as at 30 frames"),
    ],
)
def test_reported_clips_give_a_frame_a_second(name: str, indices: list[int], warning: str, shared: Path) -> None:
    frames, info = decode_clip(shared / "data" / "faults" / name, 1)
    assert [frame.index for frame in frames] == indices
    assert [frame.time_seconds for frame in frames] == pytest.approx(range(len(indices)))
    assert info.warnings[0].startswith(warning)
    assert (len(info.warnings), info.first_damage_seconds) == (1, None)
