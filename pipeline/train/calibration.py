"""Two numbers fitted to validation frames after training: the temperature, and the threshold of unknown material."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize, special
from torch import nn

from pipeline.network.heads import TwoLogits
from pipeline.train.batches import Source, prefetch
from pipeline.train.params import TrainParams

RANGE = (0.01, 100.0)  # of temperatures; outside, the likelihood is best at 0 or at infinity
NO_VALIDATION = "no validation frames; set split.val"
NO_NUMBERS = "a validation frame has logits that are no numbers"
ONE_UNIT = "of one sigmoid unit the largest logit never falls below 0; set model.output: softmax"


@dataclass(frozen=True)
class Estimate:
    """A number fitted to validation frames, or the reason why there is none."""

    value: float | None
    reason: str | None


@dataclass(frozen=True)
class Calibration:
    """The two numbers that turn logits into an answer, as the checkpoint holds them."""

    temperature: float | None  # divides the logits before the softmax
    temperature_reason: str | None
    unknown_threshold: float | None  # a picture whose largest logit is smaller shows none of the classes
    unknown_threshold_reason: str | None


def calibrate(
    module: nn.Module, source: Source | None, groups: Sequence[str], params: TrainParams, device: torch.device
) -> Calibration:
    """Fit temperature and threshold of a network, or of a head on pooled features, in float32.

    Args:
        module: what was fitted, in the kept epoch.
        source: the validation images, or None where there are none.
        groups: (n,) the clip or photo of each image of the source.
        params: the section `train`.
        device: where the module lies.
    """
    if source is None:
        return Calibration(None, NO_VALIDATION, None, NO_VALIDATION)
    logits, truth = _logits_and_labels(module, source, params.batch_size, device)
    temperature = fit_temperature(logits, truth)
    threshold = fit_unknown_threshold(logits, groups, params.unknown_false_alarms)
    if any(isinstance(part, TwoLogits) for part in module.modules()):
        threshold = Estimate(None, ONE_UNIT)
    return Calibration(temperature.value, temperature.reason, threshold.value, threshold.reason)


def fit_temperature(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> Estimate:
    """Fit the temperature with the smallest negative log-likelihood (Guo et al. 2017).

    Logits are (n, classes), class numbers (n,).
    """
    if not np.isfinite(logits).all():
        return Estimate(None, NO_NUMBERS)
    scores = logits.astype(np.float64)
    scores_of_truth = scores[np.arange(len(truth)), truth]

    # The log-likelihood is concave in 1 / temperature: its slope crosses zero once, or never.
    def slope(inverse: float) -> float:
        expected = (special.softmax(inverse * scores, axis=1) * scores).sum(axis=1)
        return float((expected - scores_of_truth).mean())

    coolest, hottest = 1 / RANGE[0], 1 / RANGE[1]
    if slope(coolest) <= 0:
        return Estimate(None, "the validation frames are as good as all right: the lower, the likelier they get")
    if slope(hottest) >= 0:
        return Estimate(None, "guessing explains the validation frames better than these logits")
    return Estimate(1 / float(optimize.brentq(slope, hottest, coolest)), None)


def fit_unknown_threshold(
    logits: NDArray[np.float32], groups: Sequence[str], false_alarm_rate: float | None
) -> Estimate:
    """Fit the threshold of the largest logit below which a picture shows none of the classes.

    The score is the largest logit (Hendrycks et al., ICML 2022, "MaxLogit"). A frame of a new clip falls below the
    threshold with at most the stated probability, if the new clip resembles the validation clips. Each validation clip
    has the weight 1 / (clips + 1), and the new clip has the same weight (Lee, Barber, Willett, "Distribution-free
    inference with hierarchical data", 2023). Frames of one clip say nothing about another clip.

    Args:
        logits: (n, classes).
        groups: (n,), the clip or photo of each frame.
        false_alarm_rate: share of known frames that may fall below the threshold; None fits no threshold.
    """
    if false_alarm_rate is None:
        return Estimate(None, "not wanted: train.unknown_false_alarms is null")
    if not np.isfinite(logits).all():
        return Estimate(None, NO_NUMBERS)
    _, group_of_frame, n_frames = np.unique(np.array(groups), return_inverse=True, return_counts=True)
    n_groups, scores = len(n_frames), logits.max(axis=1)
    order = np.argsort(scores, kind="stable")
    weights = 1 / ((n_groups + 1) * n_frames[group_of_frame[order]])
    below = 1 / (n_groups + 1) + np.cumsum(weights) - weights  # with the share of the new clip
    allowed = np.flatnonzero(below <= false_alarm_rate + 1e-9)
    if not len(allowed):
        needed = math.ceil(1 / false_alarm_rate - 1e-9) - 1
        return Estimate(None, f"{n_groups} validation clips; {false_alarm_rate:g} false alarms need {needed}")
    return Estimate(float(scores[order[allowed[-1]]]), None)


@torch.inference_mode()
def _logits_and_labels(
    module: nn.Module, source: Source, batch_size: int, device: torch.device
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return logits (n, classes) and class numbers (n,) of a source's images."""
    module.eval()
    batches = [list(range(start, min(start + batch_size, len(source)))) for start in range(0, len(source), batch_size)]
    logits, truth = list[NDArray[Any]](), list[NDArray[Any]]()
    for inputs, labels in prefetch(source, batches, 0, device):
        logits.append(module(inputs).float().cpu().numpy())
        truth.append(labels.cpu().numpy())
    return np.concatenate(logits), np.concatenate(truth)
