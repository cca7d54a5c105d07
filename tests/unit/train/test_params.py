from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.params import read_params
from pipeline.train.params import TrainParams
from tests.support.command import ROOT

DEFAULTS = read_params(ROOT / "params.yaml").train.model_dump()


def _params(**changed: Any) -> TrainParams:
    return TrainParams.model_validate(DEFAULTS | {"epochs": 10} | changed)


def test_nesterov_without_sgd_is_refused() -> None:
    with pytest.raises(ValidationError, match="nesterov needs optimizer: sgd"):
        _params(optimizer="adam", nesterov=True)


def test_a_warm_up_as_long_as_the_training_is_refused() -> None:
    with pytest.raises(ValidationError, match="expected fewer than the 10 epochs"):
        _params(warmup_epochs=10)


def test_patience_does_not_go_with_the_best_test_epoch() -> None:
    assert _params(patience_epochs=2, keep="best_val").patience_epochs == 2
    with pytest.raises(ValidationError, match="it does not go with keep: best_test"):
        _params(patience_epochs=2, keep="best_test")
