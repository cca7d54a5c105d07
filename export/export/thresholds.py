"""The thresholds of unknown material, for each graph: a graph in integers shifts the logits that they are for."""

from __future__ import annotations

from export.export.reference_frames import ReferenceFrames
from export.export.search import Trial
from export.graphs.runner import Graph
from pipeline.network.calibration import UnknownThresholds, fit_thresholds
from pipeline.network.checkpoint import Checkpoint


def thresholds_of(trial: Trial, frames: ReferenceFrames, checkpoint: Checkpoint) -> UnknownThresholds | None:
    """Fit the thresholds of a graph; None where the checkpoint has none.

    Args:
        trial: the graph.
        frames: frames that the network has not learned from, where the checkpoint is judged on held-out ones.
        checkpoint: gives the rate, and the thresholds of float32.
    """
    unknown = checkpoint.calibration.unknown
    if unknown is None or trial.precision == "fp32" or trial.core is None or checkpoint.refit == "all":
        return unknown
    logits = Graph(trial.core.SerializeToString()).run_in_batches(frames.inputs_nchw)
    return fit_thresholds(logits, frames.groups, unknown.false_alarms)[0] or unknown
