from __future__ import annotations

import hashlib
from pathlib import Path

import av
import pytest

from runtime.clips.demuxer import DamagedClipError
from tests.support.clips import decode_clip, refusal_of_clip
from tests.support.media import RATE, damage, picture, spoil, write_clip, write_intra


def test_nothing_decodable_says_how_much_was_promised(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    data = clip.read_bytes()
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    clip.write_bytes(data[:start] + bytes(end - start) + data[end:])
    expected = "no video frame could be decoded (20 promised by the header); delete or re-copy the file"
    assert refusal_of_clip(clip, strict=False) == expected


def test_a_strict_decode_stops_at_damage_and_a_lax_one_keeps_the_rest(tmp_path: Path) -> None:
    clip = damage(write_clip(tmp_path / "clip.mkv", n_frames=40, noise=20), share_kept=0.6)
    with pytest.raises(DamagedClipError):
        decode_clip(damage(clip, flipped=20))
    frames, info = decode_clip(clip, strict=False)
    assert 0 < len(frames) < 40
    assert any(warning.startswith("damaged: ") for warning in info.warnings)


def test_fewer_frames_than_promised_is_a_warning(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    with av.open(str(clip), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height = 64, 48
        for number in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode(None))
    frames, info = decode_clip(damage(clip, share_kept=0.9), strict=False)
    assert (info.frames_promised, info.frames_found) == (20, len(frames))
    assert 0 < len(frames) < 20
    assert f"{len(frames)} of 20 frames promised" in info.warnings


def test_a_damaged_clip_gives_the_same_pixels_each_time(tmp_path: Path) -> None:
    clip = damage(write_clip(tmp_path / "clip.mkv", n_frames=60, sides=(320, 240), noise=20), flipped=40)

    def fingerprint() -> str:
        frames, _ = decode_clip(clip, strict=False)
        return hashlib.sha256(b"".join(frame.pixels_hwc.tobytes() for frame in frames)).hexdigest()

    assert len({fingerprint() for _ in range(3)}) == 1


@pytest.mark.parametrize("number", [0, 7, 19])
def test_the_time_of_the_first_damage_is_that_of_the_first_frame_that_is_damaged(tmp_path: Path, number: int) -> None:
    clip = spoil(write_intra(tmp_path / "clip.mp4"), number)
    info = decode_clip(spoil(clip, 19), strict=False)[1]
    assert info.first_damage_seconds == pytest.approx(number / RATE)
    assert any(f"damage begins at {number / RATE:.2f} s" in warning for warning in info.warnings)


def test_an_undamaged_clip_has_no_time_of_damage(tmp_path: Path) -> None:
    for strict in (True, False):
        info = decode_clip(write_intra(tmp_path / "clip.mp4"), strict=strict)[1]
        assert (info.first_damage_seconds, info.warnings) == (None, ())


def test_fewer_frames_than_promised_are_damage_from_where_they_end(tmp_path: Path) -> None:
    info = decode_clip(damage(write_intra(tmp_path / "clip.mp4"), share_kept=0.5), strict=False)[1]
    assert 0 < info.frames_found < 20
    assert f"{info.frames_found} of 20 frames promised" in info.warnings
    assert info.first_damage_seconds is not None
    assert info.first_damage_seconds == pytest.approx(info.frames_found / RATE, abs=1 / RATE)
