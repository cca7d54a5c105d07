"""Classification of a clip on the device: one answer a second, and a verdict for the clip. PyAV decodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from runtime.classifier import Classifier, Prediction
from runtime.errors import ClipError, DeviceError, ImageError
from runtime.verdict import Thresholds, judge_clip

_OLDEST_PYAV = 18  # earlier ones lack functions that runtime/clips calls, or crash on phone clips


@dataclass(frozen=True)
class FrameAnswer:
    """The answer for one frame."""

    time_seconds: float  # since the clip's first frame
    prediction: Prediction


@dataclass(frozen=True)
class ClipAnswer:
    """The answer for a clip, by the mean probability over its frames."""

    label: str | None  # None: none of the classes
    probability: float  # of the most probable class
    probabilities: dict[str, float]  # mean over the frames that show a class; over all frames if none does
    frames: tuple[FrameAnswer, ...]
    warnings: tuple[str, ...] = ()  # what was odd or damaged in the clip


def classify_clip(classifier: Classifier, path: Path) -> ClipAnswer:
    """Classify the first frame at or after each full second of a clip, and the clip by these frames.

    The frames are those of `pipe extract`, from the same code. Of a damaged clip the frames that decode are classified,
    and a warning says so.

    Raises:
        ClipError: the file is no clip that can be read, no frame of it can be decoded, or its frames have more pixels
            than the contract allows.
        ImageError: its frames are outside the contract's other bounds.
        DeviceError: PyAV is not installed or too old, or onnxruntime failed.
    """
    _check_pyav()
    from runtime.clips.demuxer import DamagedClipError

    try:
        try:
            return _classify(classifier, path, strict=True)
        except DamagedClipError:
            return _classify(classifier, path, strict=False)
    except MemoryError as error:
        raise ClipError(f"{path}: decoding needs more memory than there is") from error


def _classify(classifier: Classifier, path: Path, *, strict: bool) -> ClipAnswer:
    from runtime.clips.clip import open_clip
    from runtime.clips.decode_plan import Wanted
    from runtime.clips.demuxer import Bounds

    frames = []
    bounds = Bounds(classifier.contract.max_pixels, math.inf, pixels_set_by="max_pixels in contract.json")
    with open_clip(path, bounds, strict=strict) as clip:
        for frame in clip.frames(Wanted(1)):
            try:
                frames.append(FrameAnswer(frame.time_seconds, classifier.classify(frame.pixels_hwc)))
            except ImageError as error:
                raise ImageError(f"{path}: {error}") from error
        return replace(verdict(frames, classifier.thresholds), warnings=clip.info().warnings)


def verdict(frames: Sequence[FrameAnswer], thresholds: Thresholds) -> ClipAnswer:
    """Judge a clip by all its frames, at least one, with the thresholds of the graph that answered."""
    shares = np.array([list(frame.prediction.probabilities.values()) for frame in frames])
    scores = np.array([frame.prediction.score for frame in frames])
    judged = judge_clip(shares, scores, thresholds)
    classes = list(frames[0].prediction.probabilities)
    means = dict(zip(classes, judged.probabilities.tolist(), strict=True))
    label = None if judged.class_number is None else classes[judged.class_number]
    return ClipAnswer(label, max(means.values()), means, tuple(frames))


def _check_pyav() -> None:
    """Refuse to read clips without PyAV, or with one that is too old."""
    advice = f"clips need PyAV {_OLDEST_PYAV} or newer; pip install 'av>={_OLDEST_PYAV}' (Python 3.11 or newer)"
    try:
        import av
    except (ImportError, OSError) as error:  # OSError: PyAV lacks a system library
        raise DeviceError(f"PyAV cannot be imported ({error}): {advice}") from error
    if int(av.__version__.split(".")[0]) < _OLDEST_PYAV:
        raise DeviceError(f"PyAV {av.__version__}: {advice}")
