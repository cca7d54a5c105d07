from __future__ import annotations

import gc
import hashlib
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from pipeline.base.errors import DataError
from pipeline.media.clip import ClipInfo, Frame, open_clip
from pipeline.media.decode_plan import Wanted
from pipeline.media.decoder import Clock
from pipeline.media.demuxer import Bounds, DamagedClipError, demuxer_of
from tests.support.media import RED, damage, number_in, picture, write_clip, write_sound

BOUNDS = Bounds(max_pixels=1_000_000, max_seconds=3600)
ONE = 65536  # in a display matrix


def decode(
    path: Path, frames_per_second: float = 1000, *, bounds: Bounds = BOUNDS, strict: bool = True
) -> tuple[list[Frame], ClipInfo]:
    with open_clip(path, bounds, strict=strict) as clip:
        return list(clip.frames(Wanted(frames_per_second))), clip.info()


def refusal(path: Path, **how: Any) -> str:
    with pytest.raises(DataError) as caught:
        decode(path, **how)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("frames_per_second", "wanted"),
    [
        (1, [0, 10, 20]),
        (3, [0, 4, 7, 10, 14, 17, 20, 24]),
        (0.1, [0]),
        (10, list(range(25))),
        (1000, list(range(25))),
    ],
)
def test_the_first_frame_at_or_after_each_wanted_time_is_given(
    tmp_path: Path, frames_per_second: float, wanted: list[int]
) -> None:
    frames, info = decode(write_clip(tmp_path / "clip.mp4", n_frames=25), frames_per_second)
    assert [frame.index for frame in frames] == wanted
    assert [number_in(frame.pixels_hwc) for frame in frames] == wanted
    assert [frame.time_seconds for frame in frames] == [index / 10 for index in wanted]
    assert (info.frames_promised, info.frames_found, info.warnings) == (25, 25, ())
    assert info.duration_seconds == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("times_ms", "wanted"),
    [
        ([0, 100, 1950, 2050, 3500], [0, 2, 3, 4]),
        ([0, 100, 3500, 3600], [0, 2]),  # one frame is the first after 1, 2 and 3 seconds; it is given once
        ([7000, 7500, 8000, 8500], [0, 2]),  # times count from the first frame
    ],
)
def test_times_are_those_of_presentation_where_the_rate_varies(
    tmp_path: Path, times_ms: list[int], wanted: list[int]
) -> None:
    frames, _ = decode(write_clip(tmp_path / "clip.mp4", times_ms=times_ms), 1)
    assert [frame.index for frame in frames] == wanted
    assert [frame.time_seconds for frame in frames] == [(times_ms[index] - times_ms[0]) / 1000 for index in wanted]


@pytest.mark.parametrize(
    ("matrix", "red_corner", "turned"),
    [
        ((1, 0, 0, 1), "top left", False),
        ((0, 1, -1, 0), "top right", True),  # a phone held upright
        ((-1, 0, 0, -1), "bottom right", False),
        ((0, -1, 1, 0), "bottom left", True),
        ((-1, 0, 0, 1), "top right", False),  # mirrored, as some front cameras film
        ((1, 0, 0, -1), "bottom left", False),
        ((0, 1, 1, 0), "top left", True),
        ((0, -1, -1, 0), "bottom right", True),
    ],
)
def test_pictures_are_upright(tmp_path: Path, matrix: tuple[int, ...], red_corner: str, turned: bool) -> None:
    a, b, c, d = (ONE * entry for entry in matrix)
    clip = write_clip(tmp_path / "clip.mp4", n_frames=1, display_matrix=(a, b, 0, c, d, 0, 0, 0, 1 << 30))
    (frame,), info = decode(clip)
    sides = (48, 64) if turned else (64, 48)
    assert (info.width, info.height) == sides
    assert frame.pixels_hwc.shape == (sides[1], sides[0], 3)
    assert frame.pixels_hwc.flags.c_contiguous
    corners = {
        f"{vertical} {horizontal}": frame.pixels_hwc[row, column].astype(int)
        for vertical, row in (("top", 3), ("bottom", -4))
        for horizontal, column in (("left", 3), ("right", -4))
    }
    assert min(corners, key=lambda name: np.abs(corners[name] - RED).sum()) == red_corner


def test_decoded_frames_do_not_wait_for_the_collector(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    gc.collect()
    gc.disable()
    try:
        with open_clip(clip, BOUNDS, strict=True) as opened:
            list(opened.each(Wanted(1000), lambda frame: frame.index, threads=1))
            del opened
        assert not [one for one in gc.get_objects() if type(one) is av.VideoFrame]  # isinstance wakes strange objects
        with av.open(str(clip)) as container:
            next(container.decode(video=0)).side_data  # noqa: B018  # the negative control: it holds its frame
        assert [one for one in gc.get_objects() if type(one) is av.VideoFrame]
    finally:
        gc.enable()


def test_the_rotation_of_a_phone_is_reported(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", n_frames=1, display_matrix=(0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30))
    assert decode(clip)[1].rotation == -90


BT601, BT709, UNSTATED = (5, 1), (1, 1), (2, 0)
ORANGE = (200, 60, 40)


def write_orange(path: Path, stated: tuple[int, int], red_weight: float, blue_weight: float) -> Path:
    """A clip of ORANGE by the weights of one standard, stating a standard."""
    red, green, blue = (part / 255 for part in ORANGE)
    luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    chroma = (blue - luma) / (2 - 2 * blue_weight), (red - luma) / (2 - 2 * red_weight)
    levels = [round(16 + 219 * luma), *(round(128 + 224 * part) for part in chroma)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"qp": "1"})
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame(64, 48, "yuv420p")
        for plane, level in zip(frame.planes, levels, strict=True):
            plane.update(bytes([level]) * plane.buffer_size)
        frame.colorspace, frame.color_range = stated
        stream.codec_context.colorspace, stream.codec_context.color_range = stated
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("stated", "weights", "right"),
    [
        (BT709, (0.2126, 0.0722), True),
        (BT601, (0.299, 0.114), True),
        (UNSTATED, (0.299, 0.114), True),
        (BT601, (0.2126, 0.0722), False),  # negative control: the wrong standard is a visible difference
    ],
)
def test_colours_are_those_of_the_stated_standard(
    tmp_path: Path, stated: tuple[int, int], weights: tuple[float, float], right: bool
) -> None:
    (frame,), _ = decode(write_orange(tmp_path / "clip.mp4", stated, *weights))
    difference = np.abs(frame.pixels_hwc[20, 20].astype(int) - ORANGE).max()
    assert (difference <= 3) == right


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov", "clip.mkv", "clip.avi", "clip.ts"])
def test_the_container_is_told_from_the_content(tmp_path: Path, name: str) -> None:
    clip = write_clip(tmp_path / name)
    misnamed = clip.rename(tmp_path / ("clip.webm" if name == "clip.mp4" else "clip.mp4"))
    frames, info = decode(misnamed, 1)
    assert [number_in(frame.pixels_hwc) for frame in frames] == [0, 10]
    assert info.frames_found == 20


def test_an_mpeg_program_stream_promises_nothing_and_is_decoded(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mpg"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("mpeg1video", rate=25)
        stream.width, stream.height = 64, 48
        for number in range(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode(None))
    frames, info = decode(clip, 1)
    assert [(frame.index, number_in(frame.pixels_hwc)) for frame in frames] == [(0, 0), (25, 25)]
    assert (info.frames_promised, info.frames_found, info.warnings) == (None, 30, ())


@pytest.mark.parametrize(
    "content",
    [
        b"this is no video",
        b"ffconcat version 1.0\nfile other.mp4\n",
        b"#EXTM3U\n#EXTINF:10,\nother.mp4\n#EXT-X-ENDLIST\n",
        b"RIFF\x24\x00\x00\x00WAVEfmt ",
        b"\xff\xd8\xff\xe0\x00\x10JFIF",
    ],
)
def test_what_is_no_video_is_refused_in_one_line_and_opens_nothing(tmp_path: Path, content: bytes) -> None:
    write_clip(tmp_path / "other.mp4")
    liar = tmp_path / "clip.mp4"
    liar.write_bytes(content)
    assert refusal(liar).startswith("its content is not MP4, MOV, Matroska, WebM, AVI or MPEG")
    with pytest.raises(DataError):
        demuxer_of(liar)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    assert refusal(tmp_path / "clip.mp4") == "empty file (0 bytes); delete or re-copy it"


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.mp4").startswith("cannot be read (No such file or directory)")
    assert refusal(tmp_path).startswith("cannot be read (Is a directory)")


def test_a_head_without_a_body_is_refused(tmp_path: Path) -> None:
    clip = damage(write_clip(tmp_path / "clip.mp4"), share_kept=0.1)
    assert refusal(clip).startswith("cannot be opened as a video (Invalid data")


@pytest.mark.parametrize("cover", [False, True])
def test_sound_alone_is_refused_with_a_cover_too(tmp_path: Path, cover: bool) -> None:
    assert refusal(write_sound(tmp_path / "song.mp4", cover=cover)).startswith("has no video stream")


def test_too_large_and_too_long_clips_are_refused_before_decoding(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    assert refusal(clip, bounds=Bounds(64 * 48 - 1, 3600)).startswith("frames of 64 x 48; expected at most 3071 pixels")
    assert refusal(clip, bounds=Bounds(64 * 48, 1.5)).startswith("lasts more than 1.5 seconds")
    assert decode(clip, bounds=Bounds(64 * 48, 2.0))[1].frames_decoded == 20


def test_a_clip_that_does_not_say_how_long_it_is_is_stopped(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mkv"
    with av.open(str(clip), "w", options={"live": "1"}) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height = 64, 48
        for number in range(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(clip)) as container:
        assert container.duration is None
    assert refusal(clip, bounds=Bounds(64 * 48, 2.0)).startswith("lasts more than 2 seconds")
    assert decode(clip)[1].frames_promised is None


def test_nothing_decodable_says_how_much_was_promised(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    data = clip.read_bytes()
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    clip.write_bytes(data[:start] + bytes(end - start) + data[end:])
    expected = "no video frame could be decoded (20 promised by the header); delete or re-copy the file"
    assert refusal(clip, strict=False) == expected


def test_a_strict_decode_stops_at_damage_and_a_lax_one_keeps_the_rest(tmp_path: Path) -> None:
    clip = damage(write_clip(tmp_path / "clip.mkv", n_frames=40, noise=20), share_kept=0.6)
    with pytest.raises(DamagedClipError):
        decode(damage(clip, flipped=20))
    frames, info = decode(clip, strict=False)
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
    frames, info = decode(damage(clip, share_kept=0.9), strict=False)
    assert (info.frames_promised, info.frames_found) == (20, len(frames))
    assert 0 < len(frames) < 20
    assert f"{len(frames)} of 20 frames promised" in info.warnings


def test_frames_cut_away_by_an_edit_list_are_no_damage(shared: Path) -> None:
    for name, promised, hidden in (
        ("misc/ibmmax_baseball.mp4", 183, 16),
        ("phone/coin_counter_iphone5c_rot90.MOV", 67, 1),
    ):
        _, info = decode(shared / "data" / "videos" / name, 1)
        assert (info.frames_promised, info.frames_hidden) == (promised, hidden)
        assert info.frames_found == promised - hidden
        assert info.warnings == ()


def test_a_damaged_clip_gives_the_same_pixels_each_time(tmp_path: Path) -> None:
    clip = damage(write_clip(tmp_path / "clip.mkv", n_frames=60, sides=(320, 240), noise=20), flipped=40)

    def fingerprint() -> str:
        frames, _ = decode(clip, strict=False)
        return hashlib.sha256(b"".join(frame.pixels_hwc.tobytes() for frame in frames)).hexdigest()

    assert len({fingerprint() for _ in range(3)}) == 1


def test_a_title_that_is_no_unicode_does_no_harm(tmp_path: Path) -> None:
    clip = tmp_path / "clip.avi"
    with av.open(str(clip), "w") as container:
        container.metadata["title"] = "TITLE"
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 48
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(0), format="rgb24")))
        container.mux(stream.encode(None))
    clip.write_bytes(clip.read_bytes().replace(b"TITLE", b"\xff\xfe\xfd\xfc\xfb"))
    with pytest.raises(UnicodeDecodeError):
        av.open(str(clip))
    assert decode(clip)[1].frames_decoded == 1


def test_a_relative_name_with_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "clip.mp4").rename(tmp_path / "http:clip.mp4")
    monkeypatch.chdir(tmp_path)
    assert decode(Path("http:clip.mp4"))[1].frames_decoded == 20


def clock(times: list[int | None], rate: int | None = 10) -> tuple[list[float], Clock]:
    stream: Any = SimpleNamespace(time_base=Fraction(1, 100), average_rate=rate and Fraction(rate))
    made = Clock(stream)
    frames: list[Any] = [SimpleNamespace(pts=time, duration=0) for time in times]
    return [float(made.time_of(frame)) for frame in frames], made


def test_a_frame_without_a_time_follows_the_one_before_it() -> None:
    assert clock([None, None, None])[0] == pytest.approx([0, 0.1, 0.2])
    assert clock([None, None], rate=None)[0] == pytest.approx([0, 0.04])
    times, made = clock([500, 510, None, 530])
    assert times == pytest.approx([0, 0.1, 0.2, 0.3])
    assert made.invented == 1


def test_times_that_run_backward_are_counted() -> None:
    times, made = clock([0, 10, 20, 5, 30])
    assert times == pytest.approx([0, 0.1, 0.2, 0.05, 0.3])
    assert made.backward == 1
    assert float(made.end) == pytest.approx(0.4)
