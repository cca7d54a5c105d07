"""Interlaced clips: combs become whole pictures, or a warning names them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.extract.child import Settings, decode_recording
from runtime.clips.clip import open_clip
from runtime.clips.decode_plan import Target, Wanted
from runtime.clips.decoder import DecodedFrame
from runtime.clips.deinterlace import deinterlaced
from tests.support.clips import BOUNDS, decode_clip
from tests.support.media import write_coded

N_FRAMES = 50
X264 = {"flags": "+ilme+ildct", "x264-params": "tff=1", "crf": "8", "bf": "0"}


def write_interlaced(path: Path, codec: str = "libx264", options: dict[str, str] | None = None) -> Path:
    """A bright bar that moves by four pixels each fiftieth of a second, in the two fields of a frame in turn."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or X264)
        stream.width, stream.height, stream.pix_fmt = 320, 96, "yuv420p"
        for number in range(N_FRAMES):
            pixels_hwc = np.full((96, 320, 3), 40, np.uint8)
            for field in (0, 1):
                left = (8 * number + 4 * field) % 280
                pixels_hwc[field::2, left : left + 32] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels_hwc, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def combs(pixels_hwc: NDArray[np.uint8]) -> float:
    """How much every second line differs from its neighbours: large for combs, small for whole pictures."""
    luma_hw = pixels_hwc[8:-8].astype(float).mean(axis=2)
    return float(np.abs(2 * luma_hw[1:-1] - luma_hw[:-2] - luma_hw[2:]).mean())


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
@pytest.mark.parametrize("strict", [True, False])
def test_combs_become_whole_pictures(suffix: str, strict: bool, tmp_path: Path) -> None:
    clip = write_interlaced(tmp_path / f"clip{suffix}")
    frames, info = decode_clip(clip, 5, strict=strict)
    with open_clip(clip, BOUNDS, strict=strict, deinterlace=False) as opened:
        combed = list(opened.frames(Wanted(5)))
        (warning,) = opened.info().warnings
    assert [frame.index for frame in frames] == [frame.index for frame in combed]
    assert [frame.time_seconds for frame in frames] == [frame.time_seconds for frame in combed]
    assert info.warnings == ()
    assert warning.startswith("interlaced: ")
    assert warning.endswith("decoded frames show combs where things move; extract.deinterlace: auto removes them")
    for whole, comb in zip(frames, combed, strict=True):
        assert combs(whole.pixels_hwc) < combs(comb.pixels_hwc) / 3
        assert np.abs(whole.pixels_hwc[::2].astype(int) - comb.pixels_hwc[::2]).mean() < 6  # one field stays


def test_mpeg_2_is_deinterlaced_too(tmp_path: Path) -> None:
    clip = write_interlaced(tmp_path / "clip.mpg", "mpeg2video", {"flags": "+ilme+ildct", "b": "4000000"})
    frames, info = decode_clip(clip, 5)
    assert len(frames) == 10
    assert info.warnings == ()
    assert max(combs(frame.pixels_hwc) for frame in frames) < 3


def test_frames_that_are_whole_are_left_alone(tmp_path: Path) -> None:
    clip = write_coded(tmp_path / "clip.mp4")
    with av.open(str(clip)) as container:
        frames = [DecodedFrame(frame, Target(Fraction(0), 0)) for frame in container.decode(video=0)]
    assert list(deinterlaced(iter(frames))) == frames


def test_a_clip_whose_frames_change_in_size_is_deinterlaced(tmp_path: Path) -> None:
    clips = [write_interlaced(tmp_path / "clip.ts"), write_coded(tmp_path / "other.ts")]
    decoded = []
    for clip in (*clips, clips[0]):
        with av.open(str(clip)) as container:
            decoded += [
                DecodedFrame(frame, Target(Fraction(len(decoded) + number), len(decoded) + number))
                for number, frame in enumerate(container.decode(video=0))
            ]
    sizes = [(picture.frame.width, picture.frame.height) for picture in decoded]
    pictures = list(deinterlaced(iter(decoded)))
    assert [picture.target.index for picture in pictures] == list(range(len(decoded)))
    assert [(picture.frame.width, picture.frame.height) for picture in pictures] == sizes
    assert len(set(sizes)) == 2


@pytest.mark.parametrize("deinterlace", [True, False])
def test_the_stage_does_as_its_parameter_says(deinterlace: bool, tmp_path: Path) -> None:
    clip = write_interlaced(tmp_path / "clip.mp4")
    outcome = decode_recording(clip, "clip", tmp_path, Settings(Wanted(1), ".png", 95, 10**6, 60, 2, deinterlace))
    assert outcome.clip is not None
    assert (outcome.clip["warnings"] == ()) == deinterlace
    assert outcome.damage == ""
