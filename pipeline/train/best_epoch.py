"""Which epoch's weights are kept, and whether training should stop early."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from pipeline.train.params import TrainParams

Metrics = dict[str, float]  # an epoch's numbers, by the names of the curves, such as val/loss


class BestEpoch:
    """The kept epoch: the last one, or the best by `train.keep`; the earliest of several that are equally good."""

    def __init__(self, params: TrainParams) -> None:
        self._params = params
        self._weights: dict[str, Tensor] | None = None
        self._score = math.inf  # of the kept epoch; smaller is better
        self._lowest_val_loss = math.inf
        self._epochs_since_lowest = 0
        self.epoch = 0  # the kept epoch, from 1
        self.metrics: Metrics = {}  # of the kept epoch

    def consider(self, epoch: int, metrics: Metrics, module: nn.Module) -> None:
        """Keep an epoch, with a copy of its weights, if it is the best so far.

        Args:
            epoch: from 1.
            metrics: the epoch's numbers.
            module: what is fitted, as the epoch left it.
        """
        self._count_patience(metrics)
        if self._params.keep == "last":
            self.epoch, self.metrics = epoch, metrics
            return
        score = metrics["val/loss"] if self._params.keep == "best_val" else -metrics["test/accuracy"]
        if score < self._score or not self.epoch:
            self._score, self.epoch, self.metrics = score, epoch, metrics
            self._weights = {name: value.detach().clone() for name, value in module.state_dict().items()}

    def _count_patience(self, metrics: Metrics) -> None:
        loss = metrics.get("val/loss", math.inf)
        self._epochs_since_lowest = 0 if loss < self._lowest_val_loss else self._epochs_since_lowest + 1
        self._lowest_val_loss = min(loss, self._lowest_val_loss)

    @property
    def should_stop(self) -> bool:
        """Whether the validation loss has not become smaller for `train.patience_epochs`."""
        return self._params.patience_epochs is not None and self._epochs_since_lowest >= self._params.patience_epochs

    def restore(self, module: nn.Module) -> None:
        """Put the kept epoch's weights back."""
        if self._weights is not None:
            module.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state as plain values and tensors."""
        return {name: value for name, value in vars(self).items() if name != "_params"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state that `state_dict` returned."""
        vars(self).update(state)
