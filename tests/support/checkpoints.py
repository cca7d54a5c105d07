"""Checkpoints that were never trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from pipeline.network.calibration import Calibration, not_calibrated
from pipeline.network.checkpoint import Checkpoint
from pipeline.network.params import ModelParams
from pipeline.network.preprocess import Preprocess

NOT_FITTED = not_calibrated("not fitted")


@dataclass(frozen=True)
class Untrained:
    """What a checkpoint holds beside its weights, where a held-out side judges and nothing was fitted."""

    classes: Sequence[str]
    model: ModelParams
    preprocess: Preprocess
    calibration: Calibration = NOT_FITTED


def checkpoint_of(state_dict: Mapping[str, Tensor], rest: Untrained, data: str | None = None) -> Checkpoint:
    """A checkpoint of these weights; `data` is the hash of the split."""
    return Checkpoint(
        state_dict=dict(state_dict),
        classes=tuple(rest.classes),
        model=rest.model,
        preprocess=rest.preprocess,
        fingerprints={"git": None, "data": data},
        selection="last",
        estimate="holdout",
        refit="none",
        learned_from=(),
        calibration=rest.calibration,
    )


def with_calibration(checkpoint: Checkpoint, calibration: Calibration) -> Checkpoint:
    """The same network with another calibration."""
    return replace(checkpoint, calibration=calibration)
