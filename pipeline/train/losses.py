"""What training minimises: the module together with its loss, and the losses themselves.

Each loss takes logits (batch, classes) and class numbers (batch,), and is a mean over the batch. The contrastive-center
loss of study 002 may be added: it takes the deep feature, and is a sum over the batch.
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

SMALLEST_DOUBT = 1e-12  # a smaller 1 - p is replaced by this: its power has an infinite slope at 0 where gamma < 1


class Objective(nn.Module):
    """The network, or its head alone, together with its loss: the one module that processes share."""

    def __init__(self, module: Network | Head, loss: Loss, centres: Centres | None) -> None:
        super().__init__()
        self.module = module
        self.centres = centres
        self._loss = loss

    def forward(
        self, inputs: Tensor, labels: Tensor, share: float = 1.0, sum_factor: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Return the loss and the logits (batch, classes).

        Args:
            inputs: (batch, 3, size, size) for a network, pooled features (batch, channels) for a head.
            labels: (batch,) class numbers.
            share: this batch's share of the mean where a step has several batches.
            sum_factor: factor of the loss that is a sum over the batch.
        """
        deep = self._head().deep(self._pooled(inputs))
        logits = self._head().logits(deep)
        with torch.autocast(logits.device.type, enabled=False):
            loss = share * self._loss(logits, labels)
            if self.centres is not None:
                loss = loss + sum_factor * self.centres(deep, labels)
        return loss, logits

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the logits (batch, classes) of inputs as in `forward`."""
        logits: Tensor = self.module(inputs)
        return logits

    def _head(self) -> Head:
        return self.module.head if isinstance(self.module, Network) else self.module

    def _pooled(self, inputs: Tensor) -> Tensor:
        return self.module.embed(inputs) if isinstance(self.module, Network) else inputs


def build_objective(
    module: Network | Head, params: LossParams, images_per_class: Sequence[int], seed: int
) -> Objective:
    """Build the objective that the params name.

    Args:
        module: what is fitted.
        params: the entry `train.loss`.
        images_per_class: training images, in the order of the classes.
        seed: the centres of the joint loss start at random points drawn from it.
    """
    centres = None
    if isinstance(params, JointLoss):
        *_, last = (layer for layer in module.modules() if isinstance(layer, nn.Linear))
        centres = Centres(params, len(images_per_class), last.in_features, seed)
    return Objective(module, build_loss(params, images_per_class), centres)


def build_loss(params: LossParams, images_per_class: Sequence[int]) -> Loss:
    """Return the mean loss that the params name; `images_per_class` counts training images, in class order."""
    if isinstance(params, FocalLoss):
        return lambda logits, labels: focal(logits, labels, params.gamma, params.alpha)
    if isinstance(params, CrossEntropyLoss):
        weights = balanced_weights(images_per_class) if params.balanced else None
        return lambda logits, labels: cross_entropy(logits, labels, params.label_smoothing, weights)
    if isinstance(params, BinaryCrossEntropyLoss):
        return binary_cross_entropy
    return cross_entropy


def class_weights(params: LossParams, images_per_class: Sequence[int]) -> Tensor:
    """Return the weight (classes,) float32 of an image of each class in the mean that `build_loss` gives."""
    if isinstance(params, CrossEntropyLoss) and params.balanced:
        return balanced_weights(images_per_class)
    return torch.ones(len(images_per_class))


def balanced_weights(images_per_class: Sequence[int]) -> Tensor:
    """Return total / (classes x images), (classes,) float32, so that every class has the same weight in all."""
    counts = torch.tensor(images_per_class, dtype=torch.float32)
    return counts.sum() / (len(counts) * counts)


def cross_entropy(
    logits: Tensor, labels: Tensor, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """Return -log p of the true class, in float32.

    Args:
        logits: (batch, classes).
        labels: (batch,) class numbers.
        label_smoothing: share of the uniform distribution in the target.
        class_weights: (classes,), for the weighted mean; None for the plain mean.
    """
    weights = None if class_weights is None else class_weights.to(logits.device)
    return functional.cross_entropy(to_float32(logits), labels, weight=weights, label_smoothing=label_smoothing)


def focal(logits: Tensor, labels: Tensor, gamma: float, alpha: Sequence[float] | None = None) -> Tensor:
    """Return -(1 - p)^gamma log p of the true class over the softmax (Lin et al. 2017, eq. 4; study 000, eq. 1).

    Value and gradient are finite at any margin, for gamma below 1 too: 1 - p comes from log p without cancellation.

    Args:
        logits: (batch, classes).
        labels: (batch,) class numbers.
        gamma: 0 is cross entropy.
        alpha: a weight per class, or None; the mean is over images, not over weights.
    """
    log_p = functional.log_softmax(to_float32(logits), dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)
    doubt = (-torch.expm1(log_p)).clamp_min(SMALLEST_DOUBT)
    losses = -(doubt**gamma) * log_p
    if alpha is not None:
        losses = losses * losses.new_tensor(alpha)[labels]
    return losses.mean()


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross entropy of one sigmoid unit, which is the second logit less the first.

    Raises:
        ValueError: there are not two classes.
    """
    if logits.shape[1] != 2:
        raise ValueError(f"binary cross entropy over {logits.shape[1]} classes; expected 2")
    logits = to_float32(logits)
    return functional.binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], labels.to(logits.dtype))


class Centres(nn.Module):
    """A centre per class in the space of the deep feature, learnt beside the network and not used at inference."""

    def __init__(self, params: JointLoss, n_classes: int, width: int, seed: int) -> None:
        super().__init__()
        # With a generator of its own, the joint loss changes no other random number.
        start = torch.randn(n_classes, width, generator=torch.Generator().manual_seed(seed))
        self.centres = nn.Parameter(start)
        self.weight = params.centre_weight
        self.delta = params.delta

    def forward(self, deep: Tensor, labels: Tensor) -> Tensor:
        """Return `centre_weight` x the contrastive-center loss of deep features (batch, width), in float32."""
        return self.weight * contrastive_center(to_float32(deep), labels, self.centres, self.delta)


def contrastive_center(deep: Tensor, labels: Tensor, centres: Tensor, delta: float) -> Tensor:
    """Return 1/2 SUM over the batch of |x - c_y|^2 / (sum over j != y of |x - c_j|^2 + delta) (study 002, eq. 7).

    Args:
        deep: (batch, width), the input of the network's last layer, before dropout.
        labels: (batch,) class numbers.
        centres: (classes, width).
        delta: keeps the denominator from 0.
    """
    # Distances are computed from the differences: |x|^2 - 2xc + |c|^2 loses all its digits near a centre.
    squared = (deep.unsqueeze(1) - centres).square().sum(dim=2)
    own = functional.one_hot(labels, len(centres)).bool()
    within = squared.masked_select(own)
    between = squared.masked_fill(own, 0.0).sum(dim=1)
    return 0.5 * (within / (between + delta)).sum()


def to_float32(value: Tensor) -> Tensor:
    """Convert half precision, which is too coarse for a loss, to float32; under autocast a loss may receive it."""
    return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
