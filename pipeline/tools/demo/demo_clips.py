"""Clips for the demo: a virtual phone camera moves over photographs of materials.

The photographs are CC0 and come with scikit-image. Each clip sees its own region. But all clips of a class come from
one photograph, so every number that is measured on them is too good.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from importlib import resources
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import DataError
from pipeline.base.files import replacing_folder
from pipeline.base.parallel import each

PHOTOGRAPHS = {"brick": "brick.png", "grass": "grass.png", "砾石": "gravel.png"}  # file by class; 砾石 is gravel
CLIPS_PER_CLASS = 5
SIDES = (640, 480)  # width and height of a clip, in pixels
FRAMES_PER_SECOND = 25
TIME_BASE = Fraction(1, 600)  # seconds, as in phone clips
NOISE_SHIFT = 64  # pixels; each frame takes the clip's noise at another offset
REGION_ROWS, REGION_COLUMNS = 3, 2  # how a photograph is divided; five of the six regions are filmed


@dataclass(frozen=True)
class _Shot:
    """A clip to film."""

    label: str
    clip: int  # the clip's number in its class, from 1
    seed: int

    @property
    def portrait(self) -> bool:
        """Whether the phone was held upright: the picture is stored on its side, with the rotation in the metadata."""
        return (self.label, self.clip) == ("brick", 2)

    @property
    def variable_rate(self) -> bool:
        """Whether frames are missing here and there, as in a clip that was filmed in the dark."""
        return (self.label, self.clip) == ("grass", 3)


@dataclass(frozen=True)
class _Sway:
    """A value that swings smoothly around a middle."""

    middle: float
    reach: float
    turns: float  # swings in the clip
    phase: float  # radians

    def at(self, progress: float) -> float:
        return self.middle + self.reach * math.sin(self.phase + 2 * math.pi * self.turns * progress)


def make_demo_clips(raw: Path, seed: int = 0) -> None:
    """Film five clips each of brick, grass and gravel (class 砾石) into `raw`/<class>/clip_<n>.mp4.

    The clips are H.264, 640 x 480, 25 frames per second, 6 to 8 s long. One is upright by its rotation metadata, one
    has a variable frame rate. The same seed gives the same bytes on one machine.

    Raises:
        DataError: `raw` is not empty, or scikit-image is not installed.
    """
    if raw.exists() and any(raw.iterdir()):
        raise DataError(f"{raw}: not empty; demo clips go into an empty folder")
    shots = [_Shot(label, clip, seed) for label in PHOTOGRAPHS for clip in range(1, CLIPS_PER_CLASS + 1)]
    with replacing_folder(raw) as folder:
        for _ in each(partial(_film, folder), shots, "filming"):
            pass


def _film(folder: Path, shot: _Shot) -> None:
    generator = np.random.default_rng([shot.seed, shot.clip, *PHOTOGRAPHS[shot.label].encode()])
    region_hw = _region(_photograph(shot.label), shot.clip - 1)
    path = folder / shot.label / f"clip_{shot.clip}.mp4"
    path.parent.mkdir(exist_ok=True)
    n_frames = round(generator.uniform(6, 8) * FRAMES_PER_SECOND)
    camera = _Camera(region_hw, SIDES[::-1] if shot.portrait else SIDES, generator)
    with av.open(str(path), "w") as container:
        # One thread, since with several the bytes would depend on the number of processors.
        options = {"preset": "ultrafast", "crf": "28", "threads": "1"}
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=options)
        stream.width, stream.height = SIDES
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        if shot.portrait:
            stream.set_display_rotation(-90)
        for index in range(n_frames):
            if shot.variable_rate and index and generator.random() < 0.3:
                continue
            luma_hw = camera.luma(index / n_frames)
            frame = _frame(np.rot90(luma_hw) if shot.portrait else luma_hw, camera.chroma)
            frame.pts, frame.time_base = index * TIME_BASE.denominator // FRAMES_PER_SECOND, TIME_BASE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _frame(luma_hw: NDArray[np.uint8], chroma: tuple[int, int]) -> av.VideoFrame:
    quarter = np.ones(luma_hw.size // 4, np.uint8)
    planes = np.concatenate([luma_hw.ravel(), *(quarter * np.uint8(tint) for tint in chroma)])
    return av.VideoFrame.from_ndarray(planes.reshape(-1, luma_hw.shape[1]), format="yuv420p")


def _photograph(label: str) -> NDArray[np.uint8]:
    """The luma of a class's photograph, (512, 512) uint8."""
    try:
        encoded = (resources.files("skimage") / "data" / PHOTOGRAPHS[label]).read_bytes()
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise DataError("scikit-image: not installed with its photographs; pip install 'clip2edge[train]'") from error
    return np.asarray(cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE), dtype=np.uint8)


def _region(photograph_hw: NDArray[np.uint8], position: int) -> NDArray[np.uint8]:
    height, width = photograph_hw.shape[0] // REGION_ROWS, photograph_hw.shape[1] // REGION_COLUMNS
    row, column = divmod(position, REGION_COLUMNS)
    return photograph_hw[row * height : (row + 1) * height, column * width : (column + 1) * width]


class _Camera:
    """A phone in a hand: it pans, zooms and turns a little, its exposure drifts, its sensor has a tint and noise."""

    def __init__(self, region_hw: NDArray[np.uint8], sides: tuple[int, int], generator: np.random.Generator) -> None:
        self._region_hw = region_hw
        self._sides = sides
        self._generator = generator
        self._pan_x, self._pan_y = self._sway(0, 1), self._sway(0, 1)
        self._pixel = self._sway(0.21, 0.02)  # side of a camera pixel, in pixels of the photograph
        self._degrees = self._sway(0, 5)
        self._exposure = self._sway(generator.uniform(0.75, 0.95), 0.1)
        width, height = sides
        shape = (height + NOISE_SHIFT, width + NOISE_SHIFT)
        self._noise_hw = generator.standard_normal(shape, dtype=np.float32) * np.float32(generator.uniform(3, 6))
        self.chroma = (int(generator.integers(123, 134)), int(generator.integers(123, 134)))  # Cb, Cr; 128 is grey

    def luma(self, progress: float) -> NDArray[np.uint8]:
        """The luma at `progress` (0 to 1) of the clip: (height, width) uint8, 16 for black to 235 for white."""
        view_hw = cv2.warpAffine(
            self._region_hw,
            self._view(progress),
            self._sides,
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )
        width, height = self._sides
        down, right = self._generator.integers(0, NOISE_SHIFT, 2)
        noise_hw = self._noise_hw[down : down + height, right : right + width]
        light_hw = 16 + view_hw * np.float32(self._exposure.at(progress)) + noise_hw
        return np.clip(light_hw, 16, 235).astype(np.uint8)

    def _view(self, progress: float) -> NDArray[np.float64]:
        """The affine map from camera pixels to those of the region; the whole view lies in the region."""
        pixel, angle = self._pixel.at(progress), math.radians(self._degrees.at(progress))
        turn = pixel * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        half_view = np.abs(turn) @ np.array(self._sides) / 2
        half_region = np.array(self._region_hw.shape[::-1]) / 2
        pan = np.array([self._pan_x.at(progress), self._pan_y.at(progress)])
        centre = half_region + pan * (half_region - half_view)
        return np.column_stack([turn, centre - turn @ np.array(self._sides) / 2])

    def _sway(self, middle: float, reach: float) -> _Sway:
        return _Sway(middle, reach, self._generator.uniform(0.4, 1.2), self._generator.uniform(0, 2 * math.pi))
