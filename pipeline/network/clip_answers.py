"""The clips as the device answers them: right, wrong, or refused as none of the classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.checked_values import Interval, require, require_sum
from pipeline.base.manifest import Row
from pipeline.base.share_intervals import share_interval
from pipeline.network.calibration import Calibration
from runtime.verdict import Thresholds, judge_clip


@dataclass(frozen=True)
class ClipAnswers:
    """How many clips a device answers right, from all their frames and with the thresholds."""

    n_clips: int
    right: int
    wrong: int
    refused: int  # taken for none of the classes
    interval: Interval  # 95 %, of the share of right clips

    def __post_init__(self) -> None:
        require(min(self.right, self.wrong, self.refused) >= 0, "as_device", vars(self), "no negative count")
        require_sum("as_device", (self.right, self.wrong, self.refused), self.n_clips)

    def to_json(self) -> dict[str, Any]:
        """The counts, and the interval of the right ones."""
        return {
            "n_clips": self.n_clips,
            "right": self.right,
            "wrong": self.wrong,
            "refused": self.refused,
            "right_ci95": self.interval.to_json(),
        }


@dataclass(frozen=True)
class FrameAnswers:
    """What a network or a graph says about frames, those that screening dropped included: a device sees them too."""

    rows: Sequence[Row]
    scores: NDArray[np.float32]  # (n,), what the thresholds are for
    probabilities: NDArray[np.floating[Any]]  # (n, classes)
    truth: NDArray[np.int64]  # (n,) class numbers


def answer_clips(frames: FrameAnswers, thresholds_of: Callable[[Row], Thresholds], n_folds: int | None) -> ClipAnswers:
    """Count the clips by the device's answer.

    Args:
        frames: all frames of each clip.
        thresholds_of: gives the thresholds of what judges a frame.
        n_folds: of the folds that judge; None where the test side does.
    """
    right = refused = 0
    clips = _frames_by_clip(frames.rows)
    for positions in clips:
        scores = frames.scores[positions].astype(np.float64)
        verdict = judge_clip(frames.probabilities[positions], scores, thresholds_of(frames.rows[positions[0]]))
        refused += verdict.class_number is None
        right += verdict.class_number == int(frames.truth[positions[0]])
    n_clips = len(clips)
    return ClipAnswers(n_clips, right, n_clips - right - refused, refused, share_interval(right, n_clips, n_folds))


def thresholds_of_calibration(calibration: Calibration) -> Thresholds:
    """The thresholds of a calibration, as the device takes them."""
    unknown = calibration.unknown
    return Thresholds(None, None) if unknown is None else Thresholds(unknown.frame, unknown.clip)


def _frames_by_clip(rows: Sequence[Row]) -> list[list[int]]:
    """The positions of each group's frames. A group of several labels is cut by them, since each part is an answer."""
    positions: dict[tuple[str, str], list[int]] = {}
    for position, row in enumerate(rows):
        positions.setdefault((row.group, row.label), []).append(position)
    return list(positions.values())
