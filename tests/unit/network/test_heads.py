from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pipeline.base.errors import ParamsError
from pipeline.network.heads import Head, build_head, build_hidden
from pipeline.network.params import ModelParams
from pipeline.params import read_params
from tests.support.command import ROOT

DEFAULTS = read_params(ROOT / "params.yaml").model.model_dump()


def _head(n_classes: int = 3, **changed: Any) -> Head:
    model = ModelParams.model_validate(DEFAULTS | changed)
    hidden = build_hidden(model, 16)
    widths = [layer.out_features for layer in hidden if isinstance(layer, nn.Linear)]
    return build_head(model, hidden, widths[-1] if widths else 16, n_classes)


def test_a_linear_head_is_one_layer() -> None:
    head = _head(head="linear")
    assert len(head.hidden) == 0
    assert [type(layer) for layer in head.classify] == [nn.Linear]
    assert head(torch.zeros(2, 16)).shape == (2, 3)


def test_an_fc_head_has_dropout_after_each_hidden_layer() -> None:
    head = _head(head="fc", fc_widths=[8, 4], fc_dropouts=[0.5, 0.25])
    kinds = [type(layer) for layer in head.hidden]
    assert kinds == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout]
    assert [layer.out_features for layer in head.hidden if isinstance(layer, nn.Linear)] == [8, 4]
    assert [layer.p for layer in head.hidden if isinstance(layer, nn.Dropout)] == [0.5, 0.25]


def test_the_deep_feature_is_the_input_of_the_last_layer() -> None:
    head = _head(head="fc", fc_widths=[8], fc_dropouts=[0.5]).eval()
    pooled = torch.randn(5, 16)
    assert head.deep(pooled).shape == (5, 8)
    assert torch.equal(head.classify(head.deep(pooled)), head(pooled))


@pytest.mark.parametrize("widths", [[8], [8, 4]])
def test_the_deep_feature_is_taken_before_the_last_dropout_and_the_answer_after_it(widths: list[int]) -> None:
    dropouts = [0.0] * (len(widths) - 1) + [0.5]
    head = _head(head="fc", fc_widths=widths, fc_dropouts=dropouts).train()
    pooled = torch.randn(64, 16)
    assert torch.equal(head.deep(pooled), head.hidden[:-1](pooled))
    torch.manual_seed(0)
    dropped = head.hidden(pooled)
    assert not torch.equal(dropped, head.deep(pooled))
    torch.manual_seed(0)
    assert torch.equal(head.logits(head.deep(pooled)), head.classify(dropped))


def test_of_hidden_layers_that_only_drop_the_deep_feature_is_the_pooled_one() -> None:
    """MobileNetV2 has a dropout and its last layer, nothing else."""
    pooled = torch.randn(64, 16)
    for hidden in (nn.Sequential(nn.Dropout(0.5)), nn.Sequential()):
        head = build_head(ModelParams.model_validate(DEFAULTS), hidden, 16, 3).train()
        assert torch.equal(head.deep(pooled), pooled)


def test_one_sigmoid_unit_gives_two_logits_whose_softmax_is_the_sigmoid() -> None:
    head = _head(2, output="sigmoid")
    features = torch.randn(5, 16)
    unit = head.classify[0]
    assert isinstance(unit, nn.Linear)
    assert unit.out_features == 1
    probabilities = torch.softmax(head(features), dim=1)
    assert torch.allclose(probabilities[:, 1], torch.sigmoid(unit(features))[:, 0])


def test_one_sigmoid_unit_for_three_classes_is_refused() -> None:
    with pytest.raises(ParamsError, match="sigmoid is for 2 classes; found 3"):
        _head(3, output="sigmoid")
