"""Screening: which frames are blurred, badly exposed, repeated or tiny. They are marked with the value, not deleted."""

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
from pipeline.extract.child import Picture
from pipeline.extract.params import ScreeningParams

REPEAT_SIDE = 256  # pixels of the longer side at which frames are compared
REPEAT_PARTS = 16  # per axis: a frame is new when one part of it is, however small the thing that moved
_HASH_BITS = 8  # of 64: frames whose hashes differ more are not compared; those of all repeats seen differ in 0 to 4
_COMPARED = 8  # kept frames, the closest by their hashes; in a long clip all of them would be too many
_REMEMBERED = 512  # small pictures, some 20 MB


def screen(pictures: Sequence[Picture], folder: Path, params: ScreeningParams) -> list[str]:
    """Why each picture of one recording is dropped; empty where it is kept.

    Args:
        pictures: in the order of time; a photo is alone.
        folder: where their files are.
        params: the thresholds.

    Raises:
        DataError: a file cannot be decoded.
    """
    reasons = [_small(picture, params) or _badly_exposed(picture, params) for picture in pictures]
    median = float(np.median([picture["sharpness"] for picture in pictures])) if pictures else 0.0
    reasons = [reason or _blurred(picture, median, params) for picture, reason in zip(pictures, reasons, strict=True)]
    return _with_repeats(pictures, reasons, folder, params.repeat_difference)


def check_no_class_is_empty(frames: Iterable[tuple[str, str]]) -> None:
    """Refuse a class of which nothing is kept: the stages behind could only fail on it, or train without it.

    Args:
        frames: (label, drop reason) of every frame.

    Raises:
        DataError: a class has no kept frame; it is named, with what its frames were dropped for.
    """
    reasons_of: dict[str, list[str]] = {}
    for label, reason in frames:
        reasons_of.setdefault(label, []).append(reason)
    for label, reasons in sorted(reasons_of.items()):
        if all(reasons):
            found = ", ".join(f"{number} {kind}" for kind, number in kinds(reasons).items())
            raise DataError(
                f"class {label!r}: screening kept none of its {len(reasons)} frames ({found}); look at them with "
                "`pipe extract --diagnose`, then replace the footage, or change extract.screening or extract.keep_all"
            )


def measures(pictures: Sequence[Picture]) -> dict[str, Any]:
    """What a recording's frames measure, and what became of them: for a report.

    Args:
        pictures: at least one.
    """
    reasons = [picture["drop_reason"] for picture in pictures]
    return {
        "frames_kept": reasons.count(""),
        "dropped": kinds(reasons),
        "sharpness": _spread([picture["sharpness"] for picture in pictures]),
        "brightness": _spread([picture["brightness"] for picture in pictures]),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"least": min(values), "median": float(np.median(values)), "most": max(values)}


def kinds(reasons: Iterable[str]) -> dict[str, int]:
    """How many frames were dropped as small, dark, bright, blurred or repeated."""
    return dict(sorted(Counter(reason.partition(":")[0] for reason in reasons if reason).items()))


def _small(picture: Picture, params: ScreeningParams) -> str:
    side = min(picture["width"], picture["height"])
    return f"small: {side} pixels < {params.min_side}" if side < params.min_side else ""


def _badly_exposed(picture: Picture, params: ScreeningParams) -> str:
    brightness = picture["brightness"]
    if brightness < params.min_brightness:
        return f"dark: brightness {brightness:.1f} < {params.min_brightness:g}"
    if brightness > params.max_brightness:
        return f"bright: brightness {brightness:.1f} > {params.max_brightness:g}"
    return ""


def _blurred(picture: Picture, median: float, params: ScreeningParams) -> str:
    if picture["sharpness"] >= params.min_sharpness * median:
        return ""
    share = picture["sharpness"] / median
    return f"blurred: {share:.2f} < {params.min_sharpness:g} of median sharpness"


def _with_repeats(pictures: Sequence[Picture], reasons: Sequence[str], folder: Path, least: float) -> list[str]:
    """The same, with the frames that repeat a kept one before them; so a slow change is not lost step by step."""

    @lru_cache(_REMEMBERED)
    def small_of(number: int) -> NDArray[np.uint8]:
        picture = pictures[number]
        return read_grey(folder / picture["path"], picture["width"], picture["height"], REPEAT_SIDE)

    hashes = np.array([int(picture["phash"], 16) for picture in pictures], np.uint64)
    found, kept = list(reasons), np.empty(len(pictures), np.intp)
    n_kept = 0
    for number in range(len(pictures)):
        if found[number]:
            continue
        for other in _closest(hashes, kept[:n_kept], number):
            difference = difference_between(small_of(number), small_of(other))
            if difference < least:
                of = Path(pictures[other]["path"]).stem
                found[number] = f"repeated: {difference:.1f} < {least:g} from frame {of}"
                break
        else:
            kept[n_kept] = number
            n_kept += 1
    return found


def _closest(hashes: NDArray[np.uint64], kept: NDArray[np.intp], number: int) -> list[int]:
    """The kept frames that look like one by their hashes, the closest first, of equally close ones the latest."""
    bits = np.bitwise_count(hashes[kept] ^ hashes[number])
    order = np.lexsort((-kept, bits))[:_COMPARED]
    return [int(other) for other in kept[order][bits[order] <= _HASH_BITS]]


def difference_between(first_hw: NDArray[np.uint8], second_hw: NDArray[np.uint8]) -> float:
    """The mean difference of luma, 0 to 255, in the part of the picture where it is largest.

    Pictures of different sizes differ by 255.
    """
    if first_hw.shape != second_hw.shape:
        return 255.0
    differences_hw = cv2.absdiff(first_hw, second_hw).astype(np.float32)
    size = (min(REPEAT_PARTS, first_hw.shape[1]), min(REPEAT_PARTS, first_hw.shape[0]))
    return float(cv2.resize(differences_hw, size, interpolation=cv2.INTER_AREA).max())
