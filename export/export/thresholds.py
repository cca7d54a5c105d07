"""The thresholds of unknown material, for each graph: a graph in integers shifts the score that they are for."""

from __future__ import annotations

from export.export.reference_frames import ReferenceFrames
from export.export.search import Trial
from pipeline.network.calibration import UnknownThresholds, fit_thresholds
from pipeline.network.checkpoint import Checkpoint


def thresholds_of(trial: Trial, frames: ReferenceFrames, checkpoint: Checkpoint) -> UnknownThresholds | None:
    """Fit the thresholds of a graph; None where the checkpoint has none.

    Args:
        trial: a graph that was judged.
        frames: the frames that judged it, which what answered has not learned from.
        checkpoint: gives the rate, and the thresholds of float32.
    """
    unknown = checkpoint.calibration.unknown
    if unknown is None or trial.precision == "fp32" or trial.answers is None:
        return unknown
    groups = [row.group for row in frames.rows]
    return fit_thresholds(trial.answers.scores, groups, unknown.false_alarms)[0] or unknown
