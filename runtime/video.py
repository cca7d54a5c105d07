"""Classification of a clip on the device: one answer a second, and a verdict for the clip. OpenCV decodes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.classifier import Classifier, Prediction
from runtime.errors import DeviceError, ImageError

_ISO_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")  # MP4, MOV and related files begin with one
_MATROSKA = b"\x1aE\xdf\xa3"


@dataclass(frozen=True)
class FrameAnswer:
    """The answer for one frame."""

    time_seconds: float  # since the clip's first frame
    prediction: Prediction


@dataclass(frozen=True)
class ClipAnswer:
    """The answer for a clip, by the mean probability over its frames."""

    label: str | None  # None: no frame shows one of the classes
    probability: float  # of the most probable class
    probabilities: dict[str, float]  # mean over the frames that show a class; over all frames if none does
    frames: tuple[FrameAnswer, ...]


def classify_clip(classifier: Classifier, path: Path) -> ClipAnswer:
    """Classify the first frame at or after each full second of a clip, and the clip by these frames.

    Raises:
        ImageError: the file is not an MP4, MOV, Matroska, WebM or AVI that OpenCV can decode, or its frames are outside
            the contract's bounds.
        DeviceError: OpenCV is not installed, or onnxruntime failed.
    """
    frames = []
    for time_seconds, pixels_hwc in one_frame_a_second(path, classifier.contract.max_pixels):
        try:
            frames.append(FrameAnswer(time_seconds, classifier.classify(pixels_hwc)))
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from error
    if not frames:
        raise ImageError(f"{path}: no frame could be decoded; re-copy the file")
    return verdict(frames)


def verdict(frames: Sequence[FrameAnswer]) -> ClipAnswer:
    """Return the most probable class of the mean over the frames that show a class."""
    known = [frame for frame in frames if frame.prediction.label is not None]
    counted = known or frames
    shares = np.mean([list(frame.prediction.probabilities.values()) for frame in counted], axis=0)
    means = dict(zip(counted[0].prediction.probabilities, shares.tolist(), strict=True))
    best = max(means, key=means.__getitem__)
    return ClipAnswer(best if known else None, means[best], means, tuple(frames))


def one_frame_a_second(path: Path, max_pixels: int) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Decode a clip from its beginning and yield the first frame at or after each full second.

    OpenCV's seeks miss the wanted frame in phone clips, so every frame is decoded. One frame is in memory at a time.

    Yields:
        Seconds since the clip's first frame, and the frame: (height, width, 3) uint8 RGB, upright.

    Raises:
        ImageError, DeviceError: as `classify_clip`.
    """
    cv2 = _opencv()
    _check_container(path)
    capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    try:
        _check_size(capture, path, max_pixels, cv2)
        start_ms, next_seconds = None, 0.0
        while capture.grab():
            now_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
            start_ms = now_ms if start_ms is None else start_ms
            time_seconds = (now_ms - start_ms) / 1000
            if time_seconds < next_seconds:
                continue
            is_decoded, frame_bgr = capture.retrieve()
            if is_decoded:
                yield time_seconds, np.asarray(cv2.cvtColor(frame_bgr, cv2.COLOR_BGR2RGB), np.uint8)
                next_seconds = np.floor(time_seconds) + 1
    except cv2.error as error:
        raise ImageError(f"{path}: cannot be decoded ({error}); re-copy the file") from error
    finally:
        capture.release()


def _opencv() -> Any:
    # OpenCV reads these when it opens a clip. They silence FFmpeg, and keep it from opening network addresses.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "protocol_whitelist;file")
    try:
        import cv2
    except (ImportError, OSError) as error:  # OSError: OpenCV lacks a system library
        raise DeviceError(
            f"OpenCV cannot be imported ({error}), and clips need it; pip install opencv-python-headless"
        ) from error
    library: Any = cv2
    library.utils.logging.setLogLevel(library.utils.logging.LOG_LEVEL_SILENT)  # failures are reported by this module
    return library


def _check_container(path: Path) -> None:
    """Refuse a file whose first bytes are not a clip's: FFmpeg would open a playlist and all that it lists."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror}); expected a clip") from error
    is_avi = head.startswith(b"RIFF") and head[8:] == b"AVI "
    if not (is_avi or head.startswith(_MATROSKA) or head[4:8] in _ISO_BOXES):
        raise ImageError(f"{path}: not a clip that can be read; expected MP4, MOV, Matroska, WebM or AVI")


def _check_size(capture: Any, path: Path, max_pixels: int, cv2: Any) -> None:
    if not capture.isOpened():
        raise ImageError(f"{path}: OpenCV cannot open it as a clip; re-copy the file, or convert it to H.264")
    width, height = (int(capture.get(name)) for name in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if not 0 < width * height <= max_pixels:
        raise ImageError(f"{path}: frames of {width} x {height} pixels; expected between 1 and {max_pixels} in all")
