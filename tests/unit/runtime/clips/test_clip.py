from __future__ import annotations

import gc
from pathlib import Path

import av
import numpy as np
import pytest

from runtime.clips.clip import open_clip
from runtime.clips.decode_plan import Wanted
from runtime.clips.demuxer import Bounds
from tests.support.clips import BOUNDS, decode_clip, refusal_of_clip
from tests.support.media import number_in, picture, write_clip


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
    frames, info = decode_clip(write_clip(tmp_path / "clip.mp4", n_frames=25), frames_per_second)
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
    frames, _ = decode_clip(write_clip(tmp_path / "clip.mp4", times_ms=times_ms), 1)
    assert [frame.index for frame in frames] == wanted
    assert [frame.time_seconds for frame in frames] == [(times_ms[index] - times_ms[0]) / 1000 for index in wanted]


def test_decoded_frames_do_not_wait_for_the_collector(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    gc.collect()
    gc.disable()
    try:
        with open_clip(clip, BOUNDS, strict=True) as opened:
            list(opened.map_frames(Wanted(1000), lambda frame: frame.index, threads=1))
            del opened
        assert not [
            item for item in gc.get_objects() if type(item) is av.VideoFrame
        ]  # isinstance would run code of lazy objects
        with av.open(str(clip)) as container:
            next(container.decode(video=0)).side_data  # noqa: B018  # the negative control: it holds its frame
        assert [item for item in gc.get_objects() if type(item) is av.VideoFrame]
    finally:
        gc.enable()


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
    (frame,), _ = decode_clip(write_orange(tmp_path / "clip.mp4", stated, *weights))
    difference = np.abs(frame.pixels_hwc[20, 20].astype(int) - ORANGE).max()
    assert (difference <= 3) == right


def test_an_mpeg_program_stream_promises_nothing_and_is_decoded(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mpg"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("mpeg1video", rate=25)
        stream.width, stream.height = 64, 48
        for number in range(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode(None))
    frames, info = decode_clip(clip, 1)
    assert [(frame.index, number_in(frame.pixels_hwc)) for frame in frames] == [(0, 0), (25, 25)]
    assert (info.frames_promised, info.frames_found, info.warnings) == (None, 30, ())


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
    assert refusal_of_clip(clip, bounds=Bounds(64 * 48, 2.0)).startswith("lasts more than 2 seconds")
    assert decode_clip(clip)[1].frames_promised is None


def test_frames_cut_away_by_an_edit_list_are_no_damage(shared: Path) -> None:
    for name, promised, hidden in (
        ("misc/ibmmax_baseball.mp4", 183, 16),
        ("phone/coin_counter_iphone5c_rot90.MOV", 67, 1),
    ):
        _, info = decode_clip(shared / "data" / "videos" / name, 1)
        assert (info.frames_promised, info.frames_hidden) == (promised, hidden)
        assert info.frames_found == promised - hidden
        assert info.warnings == ()
