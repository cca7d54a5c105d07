"""What training makes small: each loss takes logits (batch, classes) and class numbers (batch,), and is a mean.

Beside it may stand the contrastive-center branch of study 002, which looks at the deep feature and is a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.network.heads import Head
from pipeline.network.network import Network
from pipeline.train.params import BinaryCrossEntropyLoss, CrossEntropyLoss, FocalLoss, JointLoss, LossParams

Loss = Callable[[Tensor, Tensor], Tensor]

SMALLEST_DOUBT = 1e-12  # below, 1 - p is taken for this: its power has an infinite slope at 0 where gamma < 1


def build_loss(params: LossParams, images_per_class: Sequence[int]) -> Loss:
    """The mean that the params name; `images_per_class` are the training images, in the order of the classes."""
    if isinstance(params, FocalLoss):
        return lambda logits, labels: focal(logits, labels, params.gamma, params.alpha)
    if isinstance(params, CrossEntropyLoss):
        weights = balanced_weights(images_per_class) if params.balanced else None
        return lambda logits, labels: cross_entropy(logits, labels, params.label_smoothing, weights)
    if isinstance(params, BinaryCrossEntropyLoss):
        return binary_cross_entropy
    return cross_entropy


def class_weights(params: LossParams, images_per_class: Sequence[int]) -> Tensor:
    """(classes,) float32: what an image of each class weighs in the mean that `build_loss` gives."""
    if isinstance(params, CrossEntropyLoss) and params.balanced:
        return balanced_weights(images_per_class)
    return torch.ones(len(images_per_class))


def cross_entropy(
    logits: Tensor, labels: Tensor, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """-log p of the truth, in float32; with class weights the weighted mean."""
    weights = None if class_weights is None else class_weights.to(logits.device)
    return functional.cross_entropy(exact(logits), labels, weight=weights, label_smoothing=label_smoothing)


def focal(logits: Tensor, labels: Tensor, gamma: float, alpha: Sequence[float] | None = None) -> Tensor:
    """-(1 - p)^gamma log p of the truth over the softmax (Lin et al. 2017, eq. 4; study 000, eq. 1).

    Finite in value and gradient at any margin, for gamma below 1 too: 1 - p comes from log p without cancellation.

    Args:
        logits: (batch, classes).
        labels: (batch,) class numbers.
        gamma: 0 is cross entropy.
        alpha: a weight per class, or None; the mean is over images, not over weights.
    """
    log_p = functional.log_softmax(exact(logits), dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)
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
    logits = exact(logits)
    return functional.binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], labels.to(logits.dtype))


def balanced_weights(images_per_class: Sequence[int]) -> Tensor:
    """(classes,) float32: total / (classes x images), so that every class weighs alike."""
    counts = torch.tensor(images_per_class, dtype=torch.float32)
    return counts.sum() / (len(counts) * counts)


def contrastive_center(deep: Tensor, labels: Tensor, centres: Tensor, delta: float) -> Tensor:
    """1/2 SUM over the batch of |x - c_y|^2 / (sum over j != y of |x - c_j|^2 + delta) (study 002, eq. 7).

    Args:
        deep: (batch, width), the input of the network's last layer.
        labels: (batch,) class numbers.
        centres: (classes, width).
        delta: keeps the denominator from 0.
    """
    # Distances are taken from the differences: |x|^2 - 2xc + |c|^2 loses all its digits near a centre.
    squared = (deep.unsqueeze(1) - centres).square().sum(dim=2)
    own = functional.one_hot(labels, len(centres)).bool()
    within = squared.masked_select(own)
    between = squared.masked_fill(own, 0.0).sum(dim=1)
    return 0.5 * (within / (between + delta)).sum()


def exact(value: Tensor) -> Tensor:
    """Half precision is too coarse for a loss; under autocast its input may arrive in it."""
    return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value


class Centres(nn.Module):
    """A centre per class in the space of the deep feature, learnt beside the network; gone at inference."""

    def __init__(self, params: JointLoss, n_classes: int, width: int, seed: int) -> None:
        super().__init__()
        # A generator of their own: the joint loss leaves every other random number as it is without it.
        start = torch.randn(n_classes, width, generator=torch.Generator().manual_seed(seed))
        self.centres = nn.Parameter(start)
        self.weight = params.centre_weight
        self.delta = params.delta

    def forward(self, deep: Tensor, labels: Tensor) -> Tensor:
        """`centre_weight` x the contrastive-center loss of deep features (batch, width), in their float32."""
        return self.weight * contrastive_center(exact(deep), labels, self.centres, self.delta)


class Objective(nn.Module):
    """What is fitted, the network or its head alone, together with its loss: the one module that processes share."""

    def __init__(self, module: Network | Head, loss: Loss, centres: Centres | None) -> None:
        super().__init__()
        self.module = module
        self.centres = centres
        self._loss = loss

    def forward(self, inputs: Tensor, labels: Tensor, share: float = 1.0, times: float = 1.0) -> tuple[Tensor, Tensor]:
        """The loss and the logits (batch, classes) of inputs as `module` takes them.

        Args:
            inputs: (batch, 3, size, size) for a network, pooled features (batch, channels) for a head.
            labels: (batch,) class numbers.
            share: this batch's share of the mean where a step looks at several.
            times: how often a sum over the batch counts.
        """
        deep = self._head().deep(self._pooled(inputs))
        logits = self._head().classify(deep)
        with torch.autocast(logits.device.type, enabled=False):
            loss = share * self._loss(logits, labels)
            if self.centres is not None:
                loss = loss + times * self.centres(deep, labels)
        return loss, logits

    def logits(self, inputs: Tensor) -> Tensor:
        """Inputs as in `forward` to logits (batch, classes)."""
        logits: Tensor = self.module(inputs)
        return logits

    def _head(self) -> Head:
        return self.module.head if isinstance(self.module, Network) else self.module

    def _pooled(self, inputs: Tensor) -> Tensor:
        return self.module.embed(inputs) if isinstance(self.module, Network) else inputs


def build_objective(
    module: Network | Head, params: LossParams, images_per_class: Sequence[int], seed: int
) -> Objective:
    """The objective that the params name; the centres of the joint loss start at random points drawn from `seed`."""
    centres = None
    if isinstance(params, JointLoss):
        *_, last = (layer for layer in module.modules() if isinstance(layer, nn.Linear))
        centres = Centres(params, len(images_per_class), last.in_features, seed)
    return Objective(module, build_loss(params, images_per_class), centres)
