"""What training fits, together with its loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.fitting import JointLoss, LossParams
from pipeline.losses import Loss, build_loss, contrastive_center, exact
from pipeline.network.heads import Head
from pipeline.network.network import Network


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
