from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from pipeline.params import read_params
from pipeline.train.best_epoch import BestEpoch
from tests.support.small_project import ROOT

PARAMS = read_params(ROOT / "params.yaml").train


def _best(**changed: object) -> BestEpoch:
    return BestEpoch(PARAMS.model_copy(update=changed))


def _run_epochs(best: BestEpoch, module: nn.Linear, name: str, values: list[float]) -> int:
    """Offer an epoch per value, whose weight is the epoch's number; returns how many epochs ran."""
    for epoch, value in enumerate(values, start=1):
        nn.init.constant_(module.weight, epoch)
        best.consider(epoch, {name: value}, module)
        if best.should_stop:
            return epoch
    best.restore(module)
    return len(values)


@pytest.mark.parametrize(
    ("keep", "name", "values", "kept"),
    [
        ("last", "val/loss", [0.5, 0.3, 0.4], 3),
        ("best_val", "val/loss", [0.5, 0.3, 0.4], 2),
        ("best_val", "val/loss", [0.5, 0.3, 0.3], 2),
        ("best_test", "test/accuracy", [0.5, 0.9, 0.4], 2),
        ("best_test", "test/accuracy", [0.9, 0.5, 0.9], 1),
        ("best_val", "val/loss", [float("nan"), float("nan")], 1),
    ],
)
def test_the_kept_epoch_is_the_last_or_the_earliest_of_the_best(
    keep: str, name: str, values: list[float], kept: int
) -> None:
    module, best = nn.Linear(1, 1), _best(keep=keep)
    _run_epochs(best, module, name, values)
    assert (best.epoch, module.weight.item()) == (kept, kept)
    assert best.metrics[name] == pytest.approx(values[kept - 1], nan_ok=True)


def test_patience_ends_the_fit() -> None:
    assert _run_epochs(_best(patience_epochs=2), nn.Linear(1, 1), "val/loss", [0.5, 0.3, 0.4, 0.4, 0.1]) == 4
    assert _run_epochs(_best(patience_epochs=None), nn.Linear(1, 1), "val/loss", [0.5, 0.3, 0.4, 0.4, 0.1]) == 5


def test_the_state_survives_a_file() -> None:
    module, best = nn.Linear(1, 1), _best(keep="best_val", patience_epochs=2)
    _run_epochs(best, module, "val/loss", [0.5, 0.3, 0.4])
    file = io.BytesIO()
    torch.save(best.state_dict(), file)
    file.seek(0)
    again = _best(keep="best_val", patience_epochs=2)
    again.load_state_dict(torch.load(file, weights_only=True))
    again.consider(4, {"val/loss": 0.4}, module)
    assert again.should_stop
    again.restore(module)
    assert module.weight.item() == 2
