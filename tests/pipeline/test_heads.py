from __future__ import annotations

from typing import Any

import pytest
import torch
from command import ROOT
from torch import nn

from pipeline.errors import ParamsError
from pipeline.heads import build_head
from pipeline.modelling import ModelParams
from pipeline.params import read_params

DEFAULTS = read_params(ROOT / "params.yaml").model.model_dump()


def _head(n_classes: int = 3, **changed: Any) -> nn.Module:
    return build_head(ModelParams.model_validate(DEFAULTS | changed), 16, n_classes)


def test_a_linear_head_is_one_layer() -> None:
    head = _head(head="linear")
    assert [type(layer) for layer in head.children()] == [nn.Linear]
    assert head(torch.zeros(2, 16)).shape == (2, 3)


def test_an_fc_head_has_dropout_after_each_hidden_layer() -> None:
    head = _head(head="fc", fc_widths=[8, 4], fc_dropouts=[0.5, 0.5])
    kinds = [type(layer) for layer in head.children()]
    assert kinds == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert [layer.out_features for layer in head.children() if isinstance(layer, nn.Linear)] == [8, 4, 3]


def test_one_sigmoid_unit_gives_two_logits_whose_softmax_is_the_sigmoid() -> None:
    head = _head(2, output="sigmoid")
    features = torch.randn(5, 16)
    unit = next(layer for layer in head.children() if isinstance(layer, nn.Linear))
    assert unit.out_features == 1
    probabilities = torch.softmax(head(features), dim=1)
    assert torch.allclose(probabilities[:, 1], torch.sigmoid(unit(features))[:, 0])


def test_one_sigmoid_unit_for_three_classes_is_refused() -> None:
    with pytest.raises(ParamsError, match="sigmoid is for 2 classes; found 3"):
        _head(3, output="sigmoid")
