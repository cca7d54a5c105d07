"""The clips as the device would answer them in float32, and how often it would refuse what it knows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.base.manifest import Row
from pipeline.evaluate.evaluation import FalseAlarms
from pipeline.evaluate.predictions import Predictions
from pipeline.network.calibration import Calibration
from pipeline.network.clip_answers import ClipAnswers, FrameAnswers, answer_clips, thresholds_of_calibration

CalibrationOf = Callable[[Row], Calibration]  # of what judges a frame


def clip_answers(judged: Predictions, calibration_of: CalibrationOf, n_folds: int | None) -> ClipAnswers:
    """Count the clips by the device's answer.

    Args:
        judged: for all frames of each clip.
        calibration_of: gives the calibration of what judges a frame.
        n_folds: of the folds that judge; None where the test side does.
    """
    frames = FrameAnswers(judged.rows, judged.scores, judged.probabilities, judged.truth)
    return answer_clips(frames, lambda row: thresholds_of_calibration(calibration_of(row)), n_folds)


def false_alarms(kept: Predictions, device: ClipAnswers, calibration_of: CalibrationOf) -> FalseAlarms:
    """The shares of frames and of clips of known classes that are taken for none of them.

    Args:
        kept: for the frames that screening kept.
        device: the clips as the device answers them.
        calibration_of: gives the calibration of what judges a frame.
    """
    thresholds = [calibration_of(row).frame_threshold for row in kept.rows]
    is_refused = kept.scores < np.array([-np.inf if frame is None else frame for frame in thresholds])
    return FalseAlarms(frames=float(is_refused.mean()), groups=device.refused / device.n_clips)
