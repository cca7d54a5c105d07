"""Tiny clips and photos, drawn for tests: frame k of a clip is flat grey of a level that tells k, with a red corner."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

RATE = 10  # frames per second
TIME_BASE = Fraction(1, 1000)
LEVEL_STEP = 6
RED = (255, 0, 0)


def picture(number: int, sides: tuple[int, int] = (64, 48)) -> NDArray[np.uint8]:
    """(height, width, 3) RGB: level 60 + 6 x `number`, its top left eighth red."""
    width, height = sides
    pixels_hwc = np.full((height, width, 3), 60 + LEVEL_STEP * (number % 30), np.uint8)
    pixels_hwc[: height // 4, : width // 4] = RED
    return pixels_hwc


def number_in(pixels_hwc: NDArray[np.uint8]) -> int:
    """The number that `picture` drew."""
    height, width = pixels_hwc.shape[:2]
    middle = pixels_hwc[height // 3 : height * 2 // 3, width // 3 : width * 2 // 3]
    return round((float(middle.mean()) - 60) / LEVEL_STEP)


def write_clip(
    path: Path,
    *,
    n_frames: int = 20,
    times_ms: Sequence[int] | None = None,
    display_matrix: Sequence[int] | None = None,
    sides: tuple[int, int] = (64, 48),
    noise: int = 0,
) -> Path:
    """An H.264 clip of `picture`s, 10 per second unless `times_ms` says when; the container follows the suffix.

    `noise` is a standard deviation: it makes frames big enough to be damaged.
    """
    generator = np.random.default_rng(n_frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "crf": "10", "threads": "1"}
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height = sides
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        if display_matrix:
            stream.set_display_matrix(display_matrix)
        for number, time_ms in enumerate(times_ms or [1000 * number // RATE for number in range(n_frames)]):
            grainy = picture(number, sides) + generator.normal(0, noise, (sides[1], sides[0], 1))
            frame = av.VideoFrame.from_ndarray(grainy.clip(0, 255).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = time_ms, TIME_BASE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_sound(path: Path, *, cover: bool = False) -> Path:
    """An MP4 without video: one second of silence, with a picture as its cover or without."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        if cover:
            art = container.add_stream("mjpeg", rate=1)
            art.width, art.height, art.pix_fmt = 64, 48, "yuvj420p"
            art.disposition = Disposition.attached_pic
        for start in range(0, 8000, 1000):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, start
            container.mux(stream.encode(frame))
        if cover:
            container.mux(art.encode(av.VideoFrame.from_ndarray(picture(0), format="rgb24")))
        container.mux(stream.encode(None))
    return path


def write_photo(path: Path, number: int = 0, sides: tuple[int, int] = (64, 48)) -> Path:
    """A `picture` as the file that the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done, encoded = cv2.imencode(path.suffix, cv2.cvtColor(picture(number, sides), cv2.COLOR_RGB2BGR))
    assert done
    path.write_bytes(encoded.tobytes())
    return path


def write_raw(raw: Path, labels: Sequence[str] = ("brick", "砾石"), clips: int = 2, n_frames: int = 20) -> None:
    """`raw`/<label>/clip_<n>.mp4, small, each with a length of its own."""
    for position, label in enumerate(labels):
        for number in range(1, clips + 1):
            write_clip(raw / label / f"clip_{number}.mp4", n_frames=n_frames + position * clips + number)


def damage(path: Path, *, share_kept: float = 1.0, flipped: int = 0) -> Path:
    """Cut a file short, or overwrite some of its bytes in the middle, always the same ones."""
    data = bytearray(path.read_bytes())
    generator = np.random.default_rng(0)
    for place in generator.integers(len(data) // 4, len(data) * 3 // 4, flipped):
        data[place] ^= 0xFF
    path.write_bytes(data[: round(len(data) * share_kept)])
    return path
