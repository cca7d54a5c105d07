"""Which epoch's weights are kept, and whether it is time to stop looking for better ones."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from pipeline.train.params import TrainParams


class Best:
    """The epoch that is kept: the last, or the best by `train.keep`; of equals the earliest."""

    def __init__(self, params: TrainParams) -> None:
        self._params = params
        self._weights: dict[str, Tensor] | None = None
        self._score = math.inf  # of the kept epoch: the smaller the better
        self._lowest = math.inf  # validation loss, which patience looks at
        self._epochs_since = 0
        self.epoch = 0  # the kept one, from 1
        self.numbers: dict[str, float] = {}  # its curves' values

    def look(self, epoch: int, numbers: dict[str, float], module: nn.Module) -> None:
        """Look at an epoch's numbers, and keep a copy of the weights where it is the best so far."""
        self._look_at_validation(numbers)
        if self._params.keep == "last":
            self.epoch, self.numbers = epoch, numbers
            return
        score = numbers["val/loss"] if self._params.keep == "best_val" else -numbers["test/accuracy"]
        if score < self._score or not self.epoch:
            self._score, self.epoch, self.numbers = score, epoch, numbers
            self._weights = {name: value.detach().clone() for name, value in module.state_dict().items()}

    def _look_at_validation(self, numbers: dict[str, float]) -> None:
        loss = numbers.get("val/loss", math.inf)
        self._epochs_since = 0 if loss < self._lowest else self._epochs_since + 1
        self._lowest = min(loss, self._lowest)

    @property
    def is_over(self) -> bool:
        """Whether the validation loss has not become smaller for `train.patience_epochs`."""
        return self._params.patience_epochs is not None and self._epochs_since >= self._params.patience_epochs

    def restore(self, module: nn.Module) -> None:
        """Put the kept epoch's weights back."""
        if self._weights is not None:
            module.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """All that it knows, as plain values and tensors."""
        return {name: value for name, value in vars(self).items() if name != "_params"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Know what `state_dict` knew."""
        vars(self).update(state)
