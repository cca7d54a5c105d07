from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.clips import to_rgb
from runtime.clips.clip import ClipInfo, open_clip
from runtime.clips.decode_plan import Wanted
from runtime.clips.demuxer import Bounds
from runtime.clips.to_rgb import square_size
from runtime.errors import ClipError
from tests.support.clips import decode_clip
from tests.support.media import CODED_SIDES, RED, barcode, write_clip

BOUNDS = Bounds(10_000_000, 3600)
BT709, BT601, BT2020, UNSTATED, YCGCO = 1, 5, 9, 2, 8
LIMITED, FULL = 1, 2
HLG, PQ = 18, 16


def write(path: Path, pixels: str, matrix: int, levels: int, *, aspect: Fraction | None = None, trc: int = 1) -> Path:
    """Three pictures of a codec that loses nothing, or nearly so, stating these colours."""
    deep = "x265" if "265" in path.name else "ffv1" if path.suffix == ".mkv" else "libx264"
    with av.open(str(path), "w") as container:
        codec = {"x265": "libx265"}.get(deep, deep)
        options = {"libx265": {"x265-params": "crf=4:log-level=error:pools=none"}, "libx264": {"qp": "1"}}.get(
            codec, {}
        )
        stream = container.add_stream(codec, rate=1, options=options)
        stream.width, stream.height = CODED_SIDES
        stream.pix_fmt = pixels
        if aspect:
            stream.sample_aspect_ratio = stream.codec_context.sample_aspect_ratio = aspect
        stated = {"colorspace": matrix, "color_range": levels, "color_trc": trc, "color_primaries": matrix}
        for name, value in stated.items():
            setattr(stream.codec_context, name, value)
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(barcode(number), format="rgb24").reformat(
                format=pixels, dst_colorspace=matrix, dst_color_range=levels
            )
            for name, value in stated.items():
                setattr(frame, name, value)
            frame.pts, frame.time_base = number, Fraction(1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def decode(path: Path) -> tuple[list[NDArray[np.uint8]], ClipInfo]:
    with open_clip(path, BOUNDS, strict=True) as clip:
        return [frame.pixels_hwc for frame in clip.frames(Wanted(1))], clip.info()


def ffmpeg(path: Path, sides: tuple[int, int]) -> NDArray[np.uint8]:
    """(frames, height, width, 3) RGB of a clip by the program ffmpeg."""
    program = pytest.importorskip("imageio_ffmpeg", reason="no ffmpeg to compare with").get_ffmpeg_exe()
    scale = ["-vf", f"scale={sides[0]}:{sides[1]}"]
    finished = subprocess.run(
        [program, "-v", "error", "-nostdin", "-i", path, *scale, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        capture_output=True,
        check=True,
    )
    return np.frombuffer(finished.stdout, np.uint8).reshape(-1, sides[1], sides[0], 3)


ORACLE: list[tuple[str, str, int, int, Fraction | None]] = [
    ("clip.mp4", "yuv420p", BT601, LIMITED, None),
    ("clip.mp4", "yuv420p", BT709, LIMITED, None),
    ("clip.mp4", "yuv420p", BT709, FULL, None),
    ("clip.mp4", "yuv420p", UNSTATED, LIMITED, None),
    ("clip.mp4", "yuv420p", BT2020, LIMITED, None),
    ("clip.mp4", "yuv422p", BT709, LIMITED, None),
    ("clip.mp4", "yuv444p", BT709, LIMITED, None),
    ("clip.mp4", "yuv420p10le", BT709, LIMITED, None),
    ("clip.mp4", "yuv422p10le", BT601, LIMITED, None),
    ("clip.mkv", "yuv444p12le", BT709, LIMITED, None),
    ("clip.mkv", "yuva420p", BT709, LIMITED, None),
    ("clip.mkv", "gray", UNSTATED, LIMITED, None),
    ("clip265.mp4", "yuv420p12le", BT709, LIMITED, None),
    ("clip.mp4", "yuv420p", BT709, LIMITED, Fraction(4, 3)),
    ("clip.mp4", "yuv420p", BT709, LIMITED, Fraction(8, 9)),
]


@pytest.mark.parametrize(("name", "pixels", "matrix", "levels", "aspect"), ORACLE)
def test_pictures_are_those_of_ffmpeg(
    tmp_path: Path, name: str, pixels: str, matrix: int, levels: int, aspect: Fraction | None
) -> None:
    clip = write(tmp_path / name, pixels, matrix, levels, aspect=aspect)
    ours, info = decode(clip)
    theirs = ffmpeg(clip, square_size(*CODED_SIDES, aspect))
    assert ours[0].shape == theirs[0].shape
    assert np.abs(np.stack(ours).astype(int) - theirs).mean() <= 1.0
    assert np.abs(np.stack(ours[::-1]).astype(int) - theirs).mean() > 10  # the negative control
    assert info.warnings == ()


@pytest.mark.parametrize(
    ("aspect", "sides"), [(None, (160, 96)), (Fraction(4, 3), (213, 96)), (Fraction(8, 9), (142, 96))]
)
def test_pixels_become_square(tmp_path: Path, aspect: Fraction | None, sides: tuple[int, int]) -> None:
    frames, info = decode(write(tmp_path / "clip.mp4", "yuv420p", BT709, LIMITED, aspect=aspect))
    assert (info.width, info.height) == sides == frames[0].shape[1::-1]


def test_pixels_that_become_too_many_are_refused(tmp_path: Path) -> None:
    clip = write(tmp_path / "clip.mp4", "yuv420p", BT709, LIMITED, aspect=Fraction(4, 3))
    with (
        pytest.raises(ClipError, match="frames of 213 x 96; expected at most 16000 pixels"),
        open_clip(clip, Bounds(16_000, 60), strict=True),
    ):
        pass


@pytest.mark.parametrize("trc", [HLG, PQ])
def test_high_dynamic_range_is_not_shown_as_it_is(tmp_path: Path, trc: int) -> None:
    plain, _ = decode(write(tmp_path / "sdr265.mp4", "yuv420p10le", BT2020, LIMITED, trc=14))
    toned, info = decode(write(tmp_path / "hdr265.mp4", "yuv420p10le", BT2020, LIMITED, trc=trc))
    assert info.warnings == ()
    assert np.abs(np.stack(plain).astype(int) - np.stack(toned)).mean() > 5
    order = np.argsort(plain[0].mean(axis=2).ravel())
    darker, lighter = toned[0].mean(axis=2).ravel()[order[:1000]], toned[0].mean(axis=2).ravel()[order[-1000:]]
    assert darker.max() < lighter.min()


def test_an_unknown_matrix_gives_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write(tmp_path / "clip.mp4", "yuv420p", BT709, LIMITED)
    right, _ = decode(clip)
    known = to_rgb.matrix_is_known

    def known_once_it_states_another(frame: av.VideoFrame) -> bool:
        frame.colorspace = YCGCO
        return known(frame)

    monkeypatch.setattr("runtime.clips.to_rgb.matrix_is_known", known_once_it_states_another)
    frames, info = decode(clip)
    assert len(frames) == len(right)
    assert info.warnings == ("states a colour matrix that is not known here; colours may be wrong",)


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
    a, b, c, d = (65536 * entry for entry in matrix)
    clip = write_clip(tmp_path / "clip.mp4", n_frames=1, display_matrix=(a, b, 0, c, d, 0, 0, 0, 1 << 30))
    (frame,), info = decode_clip(clip)
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


def test_the_rotation_of_a_phone_is_reported(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", n_frames=1, display_matrix=(0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30))
    assert decode_clip(clip)[1].rotation == -90
