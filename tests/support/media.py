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
from PIL import Image

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


# What files of a suffix are, beside MP4: FFmpeg's names of the container and of an encoder that it holds.
OTHER_CONTAINERS = {
    ".vob": ("vob", "mpeg2video"),
    ".mod": ("mpeg", "mpeg2video"),
    ".wmv": ("asf", "wmv2"),
    ".flv": ("flv", "libx264"),
    ".ogv": ("ogg", "libvpx"),
    ".h264": ("h264", "libx264"),
    ".h265": ("hevc", "libx265"),
    ".mxf": ("mxf", "mpeg2video"),
}
PLAIN_RATE = 25  # frames per second of `write_plain`: MPEG-2 knows only a few rates


def write_plain(path: Path, container: str, codec: str, n_frames: int = 50) -> Path:
    """A clip of `picture`s in any container, 25 a second, without more than the encoder does by itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"x265-params": "log-level=none", "preset": "ultrafast"} if codec == "libx265" else {}
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=PLAIN_RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.bit_rate = 2_000_000
        for number in range(n_frames):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, PLAIN_RATE)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def write_dng(path: Path) -> Path:
    """A camera's raw photo, of which Pillow sees a small preview."""
    preview = Image.fromarray(picture(0))
    preview.save(path, format="TIFF", tiffinfo={0xC612: b"\x01\x04\x00\x00"})
    return path


BARS = 8  # bits of a number as a barcode
CODED_SIDES = 160, 96
HOLD = Fraction(1, 25)  # seconds of one coded frame, unless times say otherwise


def barcode(number: int, sides: tuple[int, int] = CODED_SIDES) -> NDArray[np.uint8]:
    """(height, width, 3) RGB: moving texture, and along the top the bits of `number` as bars, the highest at the left.

    Their complements lie below them, so that a picture that is turned or mirrored reads as no number.
    """
    width, height = sides
    generator = np.random.default_rng(number)
    blocks = np.random.default_rng(0).integers(60, 200, (height // 4, width // 4, 3))
    texture = np.roll(np.kron(blocks, np.ones((4, 4, 1))), (3 * number, 2 * number), (1, 0))
    pixels_hwc = (texture + generator.normal(0, 4, texture.shape)).clip(0, 255).astype(np.uint8)
    bits = np.array([number >> bit & 1 for bit in reversed(range(BARS))], dtype=np.uint8) * 255
    bars = np.repeat(bits, width // BARS)[np.newaxis, :, np.newaxis]
    pixels_hwc[: height // 6, : bars.shape[1]] = bars
    pixels_hwc[height // 6 : height // 3, : bars.shape[1]] = 255 - bars
    return pixels_hwc


def read_barcode(pixels_hwc: NDArray[np.uint8]) -> int | None:
    """The number that `barcode` drew; None where the picture is not upright, or shows none."""
    height, width = pixels_hwc.shape[:2]
    columns = (np.arange(BARS) + 0.5) * (width // BARS)
    upper, lower = (pixels_hwc[row, columns.astype(int)].mean(axis=1) for row in (height // 12, height // 4))
    if (np.abs(upper - lower) < 150).any():
        return None
    return int("".join("1" if bit else "0" for bit in upper > lower), 2)


def write_coded(
    path: Path,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    *,
    times_ms: Sequence[int] | None = None,
    turned: tuple[int, int, int, int] = (1, 0, 0, 1),
    pixels: str = "yuv420p",
) -> Path:
    """A clip of `barcode`s, 100 of them at 25 per second unless `times_ms` says when; negative times are cut away.

    `turned` is the clip's display matrix; the pictures are stored so that it makes them upright.
    """
    times_ms = times_ms or [int(1000 * number * HOLD) for number in range(100)]
    a, b, c, d = turned
    with av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as container:
        stream = container.add_stream(codec, rate=25, options={"crf": "12", "preset": "ultrafast"} | (options or {}))
        stream.width, stream.height = CODED_SIDES
        stream.pix_fmt = pixels
        stream.codec_context.time_base = TIME_BASE
        stream.set_display_matrix([entry * 65536 for entry in (a, b, 0, c, d, 0, 0, 0)] + [1 << 30])
        for number, time_ms in enumerate(times_ms):
            upright_hwc = barcode(number, CODED_SIDES if a else CODED_SIDES[::-1])
            stored_hwc = upright_hwc[:: -1 if min(b, d) < 0 else 1, :: -1 if min(a, c) < 0 else 1]
            stored_hwc = stored_hwc if a else stored_hwc.transpose(1, 0, 2)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(stored_hwc), format="rgb24")
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


def write_raw(
    raw: Path,
    labels: Sequence[str] = ("brick", "砾石"),
    clips: int = 2,
    n_frames: int = 20,
    sides: tuple[int, int] = (64, 48),
) -> None:
    """`raw`/<label>/clip_<n>.mp4, small, each with a length of its own."""
    for position, label in enumerate(labels):
        for number in range(1, clips + 1):
            path = raw / label / f"clip_{number}.mp4"
            write_clip(path, n_frames=n_frames + position * clips + number, sides=sides)


def damage(path: Path, *, share_kept: float = 1.0, flipped: int = 0) -> Path:
    """Cut a file short, or overwrite some of its bytes in the middle, always the same ones."""
    data = bytearray(path.read_bytes())
    generator = np.random.default_rng(0)
    for place in generator.integers(len(data) // 4, len(data) * 3 // 4, flipped):
        data[place] ^= 0xFF
    path.write_bytes(data[: round(len(data) * share_kept)])
    return path


def write_intra(path: Path, n_frames: int = 20) -> Path:
    """An H.264 clip in which each frame is coded by itself, so that damage in one frame stays there."""
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
