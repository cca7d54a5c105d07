"""The clips as the device answers them: right, wrong, or refused as none of the classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pipeline.base.manifest import Row
from pipeline.evaluate.evaluation import DeviceNumbers, FalseAlarms
from pipeline.evaluate.intervals import share_interval
from pipeline.evaluate.predictions import Predictions
from pipeline.network.calibration import Calibration
from runtime.verdict import Thresholds, judge_clip

CalibrationOf = Callable[[Row], Calibration]  # of what judges a frame


def device_numbers(judged: Predictions, calibration_of: CalibrationOf, n_folds: int | None) -> DeviceNumbers:
    """Count the clips by the device's answer, from all frames: a device sees those that screening drops, too.

    Args:
        judged: for all frames of each clip.
        calibration_of: gives the calibration of what judges a frame.
        n_folds: of the folds that judge; None where the test side does.
    """
    right = refused = 0
    clips = _frames_by_clip(judged.rows)
    for positions in clips:
        thresholds = thresholds_of(calibration_of(judged.rows[positions[0]]))
        scores = judged.logits[positions].max(axis=1).astype(np.float64)
        verdict = judge_clip(judged.probabilities[positions], scores, thresholds)
        refused += verdict.class_number is None
        right += verdict.class_number == int(judged.truth[positions[0]])
    n_clips = len(clips)
    return DeviceNumbers(n_clips, right, n_clips - right - refused, refused, share_interval(right, n_clips, n_folds))


def false_alarms(kept: Predictions, device: DeviceNumbers, calibration_of: CalibrationOf) -> FalseAlarms:
    """The shares of frames and of clips of known classes that are taken for none of them.

    Args:
        kept: for the frames that screening kept.
        device: the clips as the device answers them.
        calibration_of: gives the calibration of what judges a frame.
    """
    thresholds = [thresholds_of(calibration_of(row)).frame for row in kept.rows]
    is_refused = kept.logits.max(axis=1) < np.array([-np.inf if frame is None else frame for frame in thresholds])
    return FalseAlarms(frames=float(is_refused.mean()), groups=device.refused / device.n_clips)


def thresholds_of(calibration: Calibration) -> Thresholds:
    """The thresholds of a calibration, as the device takes them."""
    unknown = calibration.unknown
    return Thresholds(None, None) if unknown is None else Thresholds(unknown.frame, unknown.clip)


def _frames_by_clip(rows: Sequence[Row]) -> list[list[int]]:
    """The positions of each group's frames. A group of several labels is cut by them, since each part is an answer."""
    positions: dict[tuple[str, str], list[int]] = {}
    for position, row in enumerate(rows):
        positions.setdefault((row.group, row.label), []).append(position)
    return list(positions.values())
