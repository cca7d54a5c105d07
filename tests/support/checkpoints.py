"""Checkpoints that were never trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from pipeline.network.calibration import Calibration, not_calibrated
from pipeline.network.checkpoint import Checkpoint
from pipeline.network.fit_known_score import fit_known_score
from pipeline.network.known_score import KnownScore
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
        known_score=None if rest.calibration.unknown is None else a_known_score(width_of(state_dict)),
    )


def a_known_score(n_channels: int, seed: int = 0) -> KnownScore:
    """A score fitted to twelve planted pictures of two classes, from pooled features (12, channels)."""
    labels = np.arange(12) % 2
    noise = np.random.default_rng(seed).normal(size=(12, n_channels))
    return fit_known_score((noise + 4 * labels[:, None]).astype(np.float32), labels)


def width_of(state_dict: Mapping[str, Tensor]) -> int:
    """How many pooled features the head takes; 3 where there is no head."""
    weights = (value for name, value in state_dict.items() if name.startswith("head.") and value.ndim == 2)
    first = next(weights, None)
    return 3 if first is None else first.shape[1]


def with_calibration(checkpoint: Checkpoint, calibration: Calibration) -> Checkpoint:
    """The same network with another calibration, and a known score where that has thresholds."""
    score = checkpoint.known_score
    if calibration.unknown is not None and score is None:
        score = a_known_score(width_of(checkpoint.state_dict))
    return replace(checkpoint, calibration=calibration, known_score=score)
