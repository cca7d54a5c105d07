"""Screening: marks frames that are small, badly exposed, blurred or repeated, with the measured value. Deletes none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import DataError
from pipeline.base.frames import read_grey
from pipeline.base.words import counted
from pipeline.extract.child import Picture
from pipeline.extract.params import ScreeningParams

REPEAT_SIDE = 256  # pixels of the longer side at which frames are compared
REPEAT_PARTS = 16  # per axis: a frame is new when one part of it is, however small the thing that moved
_HASH_BITS = 8  # of 64: frames whose hashes differ more are not compared; the hashes of known repeats differ in 0 to 4
_COMPARED = 8  # kept frames, those with the closest hashes; in a long clip all of them would be too many
_CACHED = 512  # small pictures, about 20 MB


def screen(pictures: Sequence[Picture], folder: Path, params: ScreeningParams) -> list[str]:
    """Return the reason why each picture of one recording is dropped, empty for a picture that is kept.

    Args:
        pictures: in presentation order; a photo is alone.
        folder: the folder that the paths of the pictures are relative to.
        params: the thresholds.

    Raises:
        DataError: a picture's file cannot be decoded.
    """
    reasons = [_small(picture, params) or _badly_exposed(picture, params) for picture in pictures]
    median = float(np.median([picture.sharpness for picture in pictures])) if pictures else 0.0
    reasons = [reason or _blurred(picture, median, params) for picture, reason in zip(pictures, reasons, strict=True)]
    return _with_repeats(pictures, reasons, folder, params.repeat_difference)


def check_no_class_is_empty(frames: Iterable[tuple[str, str]]) -> None:
    """Refuse a class without a kept frame: later stages would fail on it, or train without it.

    Args:
        frames: (label, drop reason) of every frame.

    Raises:
        DataError: a class has no kept frame. The message says why its frames were dropped.
    """
    reasons_of: dict[str, list[str]] = {}
    for label, reason in frames:
        reasons_of.setdefault(label, []).append(reason)
    for label, reasons in sorted(reasons_of.items()):
        if all(reasons):
            counts = ", ".join(f"{n_frames} {kind}" for kind, n_frames in count_by_kind(reasons).items())
            raise DataError(
                f"class {label!r}: screening kept none of its {counted(len(reasons), 'frame')} ({counts}); "
                "look at them with `pipe extract --diagnose`, then replace the footage, or change extract.screening "
                "or extract.keep_all"
            )


def measures(pictures: Sequence[Picture]) -> dict[str, Any]:
    """Summarize the sharpness and brightness of a recording's frames, and how many are kept and dropped.

    Args:
        pictures: at least one.
    """
    reasons = [picture.drop_reason for picture in pictures]
    return {
        "frames_kept": reasons.count(""),
        "dropped": count_by_kind(reasons),
        "sharpness": _spread([picture.sharpness for picture in pictures]),
        "brightness": _spread([picture.brightness for picture in pictures]),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"least": min(values), "median": float(np.median(values)), "most": max(values)}


def count_by_kind(reasons: Iterable[str]) -> dict[str, int]:
    """Count the frames dropped as blurred, bright, dark, repeated and small."""
    return dict(sorted(Counter(reason.partition(":")[0] for reason in reasons if reason).items()))


def _small(picture: Picture, params: ScreeningParams) -> str:
    side = min(picture.width, picture.height)
    return f"small: {side} pixels < {params.min_side}" if side < params.min_side else ""


def _badly_exposed(picture: Picture, params: ScreeningParams) -> str:
    if picture.brightness < params.min_brightness:
        return f"dark: brightness {picture.brightness:.1f} < {params.min_brightness:g}"
    if picture.brightness > params.max_brightness:
        return f"bright: brightness {picture.brightness:.1f} > {params.max_brightness:g}"
    return ""


def _blurred(picture: Picture, median: float, params: ScreeningParams) -> str:
    if picture.sharpness >= params.min_sharpness * median:
        return ""
    share = picture.sharpness / median
    return f"blurred: {share:.2f} < {params.min_sharpness:g} of median sharpness"


def _with_repeats(pictures: Sequence[Picture], reasons: Sequence[str], folder: Path, threshold: float) -> list[str]:
    """The same reasons, and those of frames that repeat an earlier frame which is kept.

    Frames are compared with kept ones only, so that a slow change is not lost step by step.
    """

    @lru_cache(_CACHED)
    def read_small(index: int) -> NDArray[np.uint8]:
        picture = pictures[index]
        return read_grey(folder / picture.path, picture.width, picture.height, REPEAT_SIDE)

    hashes = np.array([int(picture.phash, 16) for picture in pictures], np.uint64)
    with_repeats, kept = list(reasons), np.empty(len(pictures), np.intp)
    n_kept = 0
    for index in range(len(pictures)):
        if with_repeats[index]:
            continue
        for earlier in _closest(hashes, kept[:n_kept], index):
            difference = difference_between(read_small(index), read_small(earlier))
            if difference < threshold:
                stem = Path(pictures[earlier].path).stem
                with_repeats[index] = f"repeated: {difference:.1f} < {threshold:g} from frame {stem}"
                break
        else:
            kept[n_kept] = index
            n_kept += 1
    return with_repeats


def _closest(hashes: NDArray[np.uint64], kept: NDArray[np.intp], index: int) -> list[int]:
    """The kept frames whose hashes are closest to that of a frame, the closest first, the latest first among equals."""
    bits = np.bitwise_count(hashes[kept] ^ hashes[index])
    order = np.lexsort((-kept, bits))[:_COMPARED]
    return [int(earlier) for earlier in kept[order][bits[order] <= _HASH_BITS]]


def difference_between(first_hw: NDArray[np.uint8], second_hw: NDArray[np.uint8]) -> float:
    """The mean difference of luma, 0 to 255, in the part of the picture where it is largest.

    Pictures of different sizes differ by 255.

    Args:
        first_hw: (height, width) uint8 luma.
        second_hw: (height, width) uint8 luma.
    """
    if first_hw.shape != second_hw.shape:
        return 255.0
    differences_hw = cv2.absdiff(first_hw, second_hw).astype(np.float32)
    size = (min(REPEAT_PARTS, first_hw.shape[1]), min(REPEAT_PARTS, first_hw.shape[0]))
    return float(cv2.resize(differences_hw, size, interpolation=cv2.INTER_AREA).max())
