"""The thresholds of unknown material, for each graph: a graph in integers shifts the score that they are for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from export.export.reference_frames import ReferenceFrames
from export.export.search import Trial
from pipeline.network.calibration import UnknownThresholds
from pipeline.network.checkpoint import Checkpoint


def thresholds_of(trial: Trial, frames: ReferenceFrames, checkpoint: Checkpoint) -> UnknownThresholds | None:
    """Turn the thresholds of float32 into those of a graph; None where the checkpoint has none.

    Those of float32 are fitted to all frames of all clips. Of these a graph is asked about some only, too few of a clip
    for its mean score. So the line that best turns the scores of float32 into the graph's turns the thresholds too. The
    mean score of a clip lies on the same line.

    Args:
        trial: a graph that was judged.
        frames: the frames that judged it, which what answered has not learned from.
        checkpoint: gives the thresholds of float32.
    """
    unknown = checkpoint.calibration.unknown
    if unknown is None or trial.precision == "fp32" or trial.answers is None:
        return unknown
    slope, shift = _line(frames.torch.scores.astype(np.float64), trial.answers.scores.astype(np.float64))
    return replace(unknown, frame=slope * unknown.frame + shift, clip=slope * unknown.clip + shift)


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """The slope and the shift of the line with the least squares; equal x (n,) tell no slope but 1."""
    deviations = x - x.mean()
    spread = float(deviations @ deviations)
    slope = float(deviations @ y) / spread if spread > 0 else 1.0
    return slope, float(y.mean() - slope * x.mean())
