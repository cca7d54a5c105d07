"""One number that makes confidence mean what it says: the temperature, which divides the logits (Guo et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize, special
from torch import nn

from pipeline.data import forbid_tf32
from pipeline.sources import Source, drawn

RANGE = (0.01, 100.0)  # beyond it the likelihood has no best temperature but 0 or infinity
NO_VALIDATION = "no validation frames; set split.val"


@dataclass(frozen=True)
class Temperature:
    """What divides the logits before the softmax; without a value, why there is none."""

    value: float | None
    reason: str | None


def fit_temperature(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> Temperature:
    """The temperature of the least negative log-likelihood of logits (n, classes) with class numbers (n,)."""
    if not np.isfinite(logits).all():
        return Temperature(None, "a validation frame has logits that are no numbers")
    scores = logits.astype(np.float64)
    scores_of_truth = scores[np.arange(len(truth)), truth]

    # The likelihood is concave in 1 / temperature: its slope crosses zero once, or never.
    def slope(inverse: float) -> float:
        expected = (special.softmax(inverse * scores, axis=1) * scores).sum(axis=1)
        return float((expected - scores_of_truth).mean())

    coolest, hottest = 1 / RANGE[0], 1 / RANGE[1]
    if slope(coolest) <= 0:
        return Temperature(None, "the validation frames are as good as all right: the lower, the likelier they get")
    if slope(hottest) >= 0:
        return Temperature(None, "guessing explains the validation frames better than these logits")
    return Temperature(1 / float(optimize.brentq(slope, hottest, coolest)), None)


@torch.inference_mode()
def temperature_on(module: nn.Module, source: Source, batch_size: int, device: torch.device) -> Temperature:
    """Fit the temperature of a network, or of a head on pooled features, to a source's images, in float32."""
    forbid_tf32()
    module.eval()
    batches = [list(range(start, min(start + batch_size, len(source)))) for start in range(0, len(source), batch_size)]
    logits, truth = list[NDArray[Any]](), list[NDArray[Any]]()
    for inputs, labels in drawn(source, batches, 0, device):
        logits.append(module(inputs).float().cpu().numpy())
        truth.append(labels.cpu().numpy())
    return fit_temperature(np.concatenate(logits), np.concatenate(truth))
