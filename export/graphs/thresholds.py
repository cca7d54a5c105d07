"""The thresholds of unknown material, for each graph: a graph in integers shifts the score that they are for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from export.graphs.gates import Scores
from pipeline.network.calibration import UnknownThresholds


def thresholds_of_graph(unknown: UnknownThresholds, of_torch: Scores, of_graph: Scores) -> UnknownThresholds:
    """Turn the thresholds of float32 into those of a graph.

    Those of float32 are fitted to all frames of all clips. Of these a graph may be asked about some only, too few of a
    clip for its mean score. So the line that best turns the scores of float32 into the graph's turns the thresholds
    too. The mean score of a clip lies on the same line.

    Args:
        unknown: the thresholds of float32.
        of_torch: the scores in float32 of some frames (n,), finite.
        of_graph: the graph's scores of the same frames (n,), finite.
    """
    slope, shift = _line(of_torch.astype(np.float64), of_graph.astype(np.float64))
    return replace(unknown, frame=slope * unknown.frame + shift, clip=slope * unknown.clip + shift)


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """The slope and the shift of the line with the least squares; equal x (n,) tell no slope but 1."""
    deviations = x - x.mean()
    spread = float(deviations @ deviations)
    slope = float(deviations @ y) / spread if spread > 0 else 1.0
    return slope, float(y.mean() - slope * x.mean())
