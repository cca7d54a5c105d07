"""What training makes small: each loss takes logits (batch, classes) and class numbers (batch,), and is a mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.fitting import CrossEntropyLoss, FocalLoss, LossParams

Loss = Callable[[Tensor, Tensor], Tensor]

SMALLEST_DOUBT = 1e-12  # below, 1 - p is taken for this: its power has an infinite slope at 0 where gamma < 1


def build_loss(params: LossParams, images_per_class: Sequence[int]) -> Loss:
    """The loss that the params name; `images_per_class` are the training images, in the order of the classes."""
    if isinstance(params, FocalLoss):
        return lambda logits, labels: focal(logits, labels, params.gamma, params.alpha)
    if isinstance(params, CrossEntropyLoss):
        weights = balanced_weights(images_per_class) if params.balanced else None
        return lambda logits, labels: cross_entropy(logits, labels, params.label_smoothing, weights)
    return binary_cross_entropy


def cross_entropy(
    logits: Tensor, labels: Tensor, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """-log p of the truth, in float32; with class weights the weighted mean."""
    weights = None if class_weights is None else class_weights.to(logits.device)
    return functional.cross_entropy(_exact(logits), labels, weight=weights, label_smoothing=label_smoothing)


def focal(logits: Tensor, labels: Tensor, gamma: float, alpha: Sequence[float] | None = None) -> Tensor:
    """-(1 - p)^gamma log p of the truth over the softmax (Lin et al. 2017, eq. 4; study 000, eq. 1).

    Finite in value and gradient at any margin, for gamma below 1 too: 1 - p comes from log p without cancellation.

    Args:
        logits: (batch, classes).
        labels: (batch,) class numbers.
        gamma: 0 is cross entropy.
        alpha: a weight per class, or None; the mean is over images, not over weights.
    """
    log_p = functional.log_softmax(_exact(logits), dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)
    doubt = (-torch.expm1(log_p)).clamp_min(SMALLEST_DOUBT)
    losses = -(doubt**gamma) * log_p
    if alpha is not None:
        losses = losses * losses.new_tensor(alpha)[labels]
    return losses.mean()


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The cross entropy of one sigmoid unit: the second logit over the first.

    Raises:
        ValueError: there are not two classes.
    """
    if logits.shape[1] != 2:
        raise ValueError(f"binary cross entropy over {logits.shape[1]} classes; expected 2")
    exact = _exact(logits)
    return functional.binary_cross_entropy_with_logits(exact[:, 1] - exact[:, 0], labels.to(exact.dtype))


def balanced_weights(images_per_class: Sequence[int]) -> Tensor:
    """(classes,) float32: total / (classes x images), so that every class weighs alike."""
    counts = torch.tensor(images_per_class, dtype=torch.float32)
    return counts.sum() / (len(counts) * counts)


def _exact(logits: Tensor) -> Tensor:
    """Half precision is too coarse for a loss; under autocast the logits may arrive in it."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
