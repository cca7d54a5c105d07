from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.network.params import FreezeUpTo, ModelParams, OpenConvolutions
from pipeline.params import read_params
from tests.support.command import ROOT

DEFAULTS = read_params(ROOT / "params.yaml").model.model_dump()


def _model(**changed: Any) -> ModelParams:
    return ModelParams.model_validate(DEFAULTS | changed)


def test_every_hidden_layer_needs_a_dropout() -> None:
    assert _model(fc_widths=[8, 4], fc_dropouts=[0.5, 0.0]).fc_widths == (8, 4)
    with pytest.raises(ValidationError, match="fc_dropouts has 1 numbers; expected 2, as fc_widths"):
        _model(fc_widths=[8, 4], fc_dropouts=[0.5])


def test_a_plain_head_keeps_its_published_pooling() -> None:
    assert _model(head="plain", pooling="average").head == "plain"
    with pytest.raises(ValidationError, match="head: plain has its published pooling; set pooling: average"):
        _model(head="plain", pooling="flatten")


@pytest.mark.parametrize(
    ("freeze", "expected"),
    [
        ("all", "all"),
        ({"up_to": "layer3"}, FreezeUpTo(up_to="layer3")),
        ({"open_convolutions": 4}, OpenConvolutions(open_convolutions=4)),
    ],
)
def test_freeze_is_a_word_a_layer_or_a_number_of_convolutions(freeze: Any, expected: object) -> None:
    assert _model(freeze=freeze).freeze == expected


@pytest.mark.parametrize("freeze", ["some", {"up_to": ""}, {"open_convolutions": 0}, {"up": "layer3"}])
def test_any_other_freeze_is_refused(freeze: Any) -> None:
    with pytest.raises(ValidationError, match="freeze"):
        _model(freeze=freeze)
