"""Drawn clips in which discs move over a background, and copies of them: trimmed, encoded again, resized, mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.base.fingerprints import Fingerprint
from pipeline.extract.fingerprint import FingerprintCollector
from runtime.clips.clip import open_clip
from runtime.clips.decode_plan import Wanted
from runtime.clips.demuxer import Bounds
from tests.support.scenes import scene

RATE = 25
Picture = NDArray[np.uint8]  # (height, width, 3) BGR


@dataclass(frozen=True)
class Copy:
    """How a copy differs from its original."""

    skipped_seconds: float = 0.0
    every: int = 1  # frame of the original is taken
    size: tuple[int, int] = (240, 180)  # width, height
    mirrored: bool = False
    group: int = 250  # frames from keyframe to keyframe
    bitrate: int = 150_000


def film(background: int, motion: int, seconds: float = 4.0) -> list[Picture]:
    """The frames of a clip; one background with another motion is another take of the same scene."""
    generator = np.random.default_rng(1000 + motion)
    paths = generator.uniform(0.2, 0.8, (4, 4)) * [240, 180, 240, 180]
    speeds, colours = generator.uniform(0.3, 1.2, 4), generator.integers(0, 256, (4, 3))
    empty, frames = scene(background), []
    for number in range(round(seconds * RATE)):
        picture = empty.copy()
        for (x, y, across, down), speed, colour in zip(paths, speeds, colours, strict=True):
            angle = 2 * np.pi * speed * number / RATE
            centre = int(x + np.sin(angle) * across / 3), int(y + np.cos(angle) * down / 3)
            cv2.circle(picture, centre, 28, colour.tolist(), -1)
        frames.append(picture)
    return frames


def write_copy(frames: Sequence[Picture], path: Path, copy: Copy) -> Path:
    """Encode frames, from 25 a second, as the copy asks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(RATE, copy.every), options={"preset": "veryfast"})
        stream.width, stream.height = copy.size
        stream.pix_fmt, stream.bit_rate, stream.codec_context.gop_size = "yuv420p", copy.bitrate, copy.group
        for picture in frames[round(copy.skipped_seconds * RATE) :: copy.every]:
            turned = np.ascontiguousarray(
                cv2.resize(picture, copy.size)[:, ::-1] if copy.mirrored else cv2.resize(picture, copy.size)
            )
            for packet in stream.encode(av.VideoFrame.from_ndarray(turned, format="bgr24")):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path


def fingerprint_of(path: Path, threads: int = 1) -> Fingerprint:
    """The fingerprint of a clip of which a frame a second is wanted."""
    collector = FingerprintCollector()
    with open_clip(path, Bounds(10**7, 3600), strict=True, watch=collector) as clip:
        list(clip.map_frames(Wanted(1.0), lambda frame: frame.index, threads=threads))
    return collector.fingerprint()
