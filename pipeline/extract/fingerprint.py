"""The fingerprint of a clip, collected from every frame that is decoded on the way to the wanted ones."""

from __future__ import annotations

import base64
import threading
import zlib

import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from pipeline.base.fingerprints import RATE, SIDE, Fingerprint, SoundFingerprint

MOST_PICTURES = 6000  # ten minutes at the full rate; a longer clip keeps every second picture, every fourth and so on
_SAMPLES = 128  # of a picture's shorter side, at least where it has so many: reading all pixels would cost a decoding
_EIGHT_BIT = frozenset(
    {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "yuv411p", "nv12", "nv21", "gray"}
)
_TEN_BIT = frozenset({"yuv420p10le", "yuv422p10le", "yuv444p10le", "gray10le"})


class FingerprintCollector:
    """Keeps the earliest decoded frame of each tenth of a second. Threads may share one."""

    def __init__(self) -> None:
        self._by_tick: dict[int, tuple[float, NDArray[np.uint8]]] = {}
        self._lock = threading.Lock()

    def __call__(self, frame: VideoFrame, time_seconds: float) -> None:
        """Look at a decoded frame, at its time since the clip's first frame; negative times are hidden frames."""
        tick = int(time_seconds * RATE)
        with self._lock:
            known = self._by_tick.get(tick)
        if time_seconds < 0 or (known is not None and known[0] <= time_seconds):
            return
        picture = small_picture(frame)
        with self._lock:
            known = self._by_tick.get(tick)
            if known is None or time_seconds < known[0]:
                self._by_tick[tick] = time_seconds, picture

    def fingerprint(self) -> Fingerprint:
        """What was collected, whatever the order of the frames."""
        step = 1
        while len(self._by_tick) > step * MOST_PICTURES:
            step *= 2
        kept = [self._by_tick[tick] for tick in sorted(self._by_tick) if tick % step == 0]
        times = np.array([round(time * 1000) for time, _ in kept], np.int64)
        pictures = np.array([picture for _, picture in kept], np.uint8).reshape(-1, SIDE, SIDE)
        ascending = np.append(True, np.diff(times) > 0)[: len(times)]
        return Fingerprint(times[ascending], pictures[ascending])


def to_text(fingerprint: Fingerprint | SoundFingerprint) -> str:
    """The file of a fingerprint as text, so that it travels in JSON."""
    return base64.b64encode(zlib.compress(fingerprint.to_bytes(), 1)).decode("ascii")


def file_of_text(text: str) -> bytes:
    """The file that `to_text` was given."""
    return zlib.decompress(base64.b64decode(text))


def small_picture(frame: VideoFrame) -> NDArray[np.uint8]:
    """The luma of a decoded frame, upright and squashed to (16, 16) uint8."""
    small_hw = cv2.resize(_some_luma(frame), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(np.rot90(small_hw, round(frame.rotation / 90) % 4), np.uint8)


def _some_luma(frame: VideoFrame) -> NDArray[np.uint8]:
    """Evenly spaced pixels of the luma; of a format without a plane of luma, the converted frame."""
    step = max(1, min(frame.width, frame.height) // _SAMPLES)
    name = frame.format.name
    if name not in _EIGHT_BIT | _TEN_BIT:
        return np.asarray(frame.reformat(format="gray").to_ndarray()[::step, ::step], np.uint8)
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height : step]
    if name in _TEN_BIT:
        return np.asarray(rows.view("<u2")[:, : frame.width : step].astype(np.uint16) >> 2, np.uint8)
    return np.ascontiguousarray(rows[:, : frame.width : step])
