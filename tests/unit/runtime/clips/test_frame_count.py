"""Clips that show other frames than their header counts are whole; those that give fewer than they list are not."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import pytest

from pipeline.extract.child import Settings, decode_recording
from runtime.clips.decode_plan import Wanted
from tests.support.clips import decode_clip
from tests.support.media import damage, number_in, read_barcode, write_clip, write_coded


def with_edits(path: Path, edits: list[tuple[int, int]]) -> Path:
    """Replace the edit list of an MP4 whose header lies at the end: (length, start) of each part in milliseconds."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.time_base
        per_ms = 1 / (1000 * stream.time_base)
    data = bytearray(path.read_bytes())
    start = data.index(b"elst") - 4
    old_size = int.from_bytes(data[start : start + 4], "big")
    first = int.from_bytes(data[start + 20 : start + 24], "big")  # where the whole clip starts: B-frames shift it
    parts = [struct.pack(">IIHH", length, first + round(begin * per_ms), 1, 0) for length, begin in edits]
    box = struct.pack(">I4sII", 16 + 12 * len(parts), b"elst", 0, len(parts)) + b"".join(parts)
    for name in (b"moov", b"trak", b"edts"):
        at = data.index(name) - 4
        data[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") + len(box) - old_size).to_bytes(4, "big")
    data[start : start + old_size] = box
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([(1000, 0), (1000, 2000)], [*range(25), *range(50, 75)]),
        ([(1000, 2000), (1000, 0)], [*range(50, 75), *range(25)]),  # in another order than it was filmed
        ([(1000, 0), (1000, 0)], [*range(25), *range(25)]),  # more frames hidden and shown than are stored
        ([(1000, 520), (1000, 2520)], [*range(13, 38), *range(63, 88)]),
    ],
)
@pytest.mark.parametrize("options", [{"bf": "0", "g": "25"}, {"bf": "0", "g": "250"}, {"bf": "2", "g": "25"}])
def test_a_cut_clip_is_whole(
    edits: list[tuple[int, int]], expected: list[int], options: dict[str, str], tmp_path: Path
) -> None:
    clip = with_edits(write_coded(tmp_path / "clip.mp4", options={"preset": "veryfast"} | options), edits)
    frames, info = decode_clip(clip)
    assert [read_barcode(frame.pixels_hwc) for frame in frames] == expected
    assert (info.first_damage_seconds, info.warnings) == (None, ())
    assert info.frames_promised is not None
    assert info.frames_promised - info.frames_hidden == info.frames_found == 50


def write_sparse(path: Path) -> Path:
    """An AVI with empty chunks between its frames: FFmpeg writes them, since the unit of its times is a millisecond."""
    clip = write_clip(path, n_frames=25)
    with av.open(str(clip)) as container:
        assert container.streams.video[0].frames > 1000
    return clip


def without_index(path: Path) -> Path:
    """The same AVI without the index at its end, which ends as its first chunk says."""
    data = bytearray(path.read_bytes())
    data[data.index(b"idx1") :] = b""
    data[4:8] = (len(data) - 8).to_bytes(4, "little")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("has_index", [True, False])
def test_an_avi_with_empty_chunks_is_whole(has_index: bool, tmp_path: Path) -> None:
    clip = write_sparse(tmp_path / "clip.avi")
    clip = clip if has_index else without_index(clip)
    frames, info = decode_clip(clip)
    # FFmpeg gives the last two frames one time, so that the last is not taken.
    assert [number_in(frame.pixels_hwc) for frame in frames] == list(range(24))
    assert [frame.time_seconds for frame in frames] == pytest.approx([number / 10 for number in range(24)])
    assert (info.frames_promised, info.frames_found, info.warnings) == (25 if has_index else None, 25, ())
    assert info.first_damage_seconds is None


def test_an_avi_that_is_cut_short_is_damaged(tmp_path: Path) -> None:
    info = decode_clip(damage(write_sparse(tmp_path / "clip.avi"), share_kept=0.2), strict=False)[1]
    assert 0 < info.frames_found < 25
    assert info.first_damage_seconds is not None


@pytest.mark.parametrize("name", ["v04_nullframes.avi", "v17_cut_bf0.mp4"])
def test_reported_clips_are_whole(name: str, shared: Path, tmp_path: Path) -> None:
    settings = Settings(Wanted(1), ".jpg", 95, 1_000_000, 7200, 1)
    outcome = decode_recording(shared / "data" / "faults" / name, "clip", tmp_path, settings)
    assert outcome.damage == ""  # so that `on_damage: drop` and `fail` leave it alone
    assert outcome.clip is not None
    assert outcome.clip["warnings"] == ()
    assert (outcome.clip["frames_found"], len(outcome.pictures)) == {"v04": (50, 3), "v17": (60, 2)}[name[:3]]
