from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.train import losses
from pipeline.train.params import BinaryCrossEntropyLoss, CrossEntropyLoss, FocalLoss

GENERATOR = np.random.default_rng(0)
LOGITS = torch.tensor(GENERATOR.normal(0, 3, (16, 4)))
LABELS = torch.tensor(GENERATOR.integers(0, 4, 16))


def _probability_of_truth(logits: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    exponents = np.exp(logits.numpy())
    return (exponents / exponents.sum(axis=1, keepdims=True))[np.arange(len(labels)), labels.numpy()]


@pytest.mark.parametrize("gamma", [0.0, 0.25, 1.0, 2.0])
def test_focal_loss_is_its_formula(gamma: float) -> None:
    p = _probability_of_truth(LOGITS, LABELS)
    expected = np.mean(-((1 - p) ** gamma) * np.log(p))
    assert losses.focal(LOGITS, LABELS, gamma).item() == pytest.approx(expected)


def test_alpha_weighs_each_class() -> None:
    alpha = (0.1, 0.2, 0.3, 0.4)
    p = _probability_of_truth(LOGITS, LABELS)
    expected = np.mean(-np.array(alpha)[LABELS.numpy()] * (1 - p) ** 2 * np.log(p))
    assert losses.focal(LOGITS, LABELS, 2.0, alpha).item() == pytest.approx(expected)


def test_gamma_of_zero_is_cross_entropy() -> None:
    assert losses.focal(LOGITS, LABELS, 0.0).item() == pytest.approx(losses.cross_entropy(LOGITS, LABELS).item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("gamma", [0.25, 0.5, 2.0])
def test_focal_loss_and_its_gradient_are_finite_at_every_margin(gamma: float, dtype: torch.dtype) -> None:
    for margin in np.linspace(-100, 100, 401):
        logits = torch.tensor([[margin, 0.0]], dtype=dtype, requires_grad=True)
        loss = losses.focal(logits, torch.tensor([0]), gamma)
        loss.backward()
        assert math.isfinite(loss.item())
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all(), margin


@pytest.mark.parametrize("gamma", [0.25, 0.5])
def test_focal_loss_is_finite_at_every_margin_under_bf16_autocast(gamma: float) -> None:
    layer = torch.nn.Linear(1, 2, bias=False)
    torch.nn.init.constant_(layer.weight, 1.0)
    for margin in np.linspace(0, 100, 401):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logits = layer(torch.ones(1, 1)) + torch.tensor([[margin, 0.0]], dtype=torch.bfloat16)
            loss = losses.focal(logits, torch.tensor([0]), gamma)
        loss.backward()
        assert math.isfinite(loss.item())
        assert layer.weight.grad is not None
        assert torch.isfinite(layer.weight.grad).all(), margin


def test_the_plain_formula_would_not_be_finite() -> None:
    logits = torch.tensor([[100.0, 0.0]], requires_grad=True)
    p = functional.softmax(logits, dim=1)[:, 0]
    (-((1 - p) ** 0.25) * torch.log(p)).sum().backward()
    assert logits.grad is not None
    assert not torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("gamma", [0.25, 1.0, 2.0])
@pytest.mark.parametrize("margin", [-100.0, -20.0, -1.0, 0.0, 1.0, 8.0, 15.0])
def test_the_gradient_of_focal_loss_is_its_derivative(gamma: float, margin: float) -> None:
    logits = torch.tensor([[margin, 0.0, -1.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: losses.focal(x, torch.tensor([0]), gamma), (logits,))


def test_losses_are_exact_under_autocast() -> None:
    layer = torch.nn.Linear(8, 4)
    inputs = torch.randn(16, 8)
    with torch.autocast("cpu", torch.bfloat16):
        logits = layer(inputs)
        assert logits.dtype == torch.bfloat16
        for loss in (losses.cross_entropy(logits, LABELS), losses.focal(logits, LABELS, 0.25)):
            assert loss.dtype == torch.float32


def test_label_smoothing_mixes_in_the_uniform_distribution() -> None:
    log_p = functional.log_softmax(LOGITS, dim=1).numpy()
    target = np.full((16, 4), 0.1 / 4) + 0.9 * np.eye(4)[LABELS.numpy()]
    expected = -(target * log_p).sum(axis=1).mean()
    assert losses.cross_entropy(LOGITS, LABELS, 0.1).item() == pytest.approx(expected)


def test_balanced_weights_make_every_class_weigh_alike() -> None:
    weights = losses.balanced_weights([10, 30, 60])
    assert (weights * torch.tensor([10, 30, 60])).tolist() == pytest.approx([100 / 3] * 3)


def test_class_weights_give_the_weighted_mean() -> None:
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    of_truth = weights.numpy()[LABELS.numpy()]
    expected = (of_truth * -np.log(_probability_of_truth(LOGITS, LABELS))).sum() / of_truth.sum()
    assert losses.cross_entropy(LOGITS, LABELS, 0.0, weights).item() == pytest.approx(expected)


def test_binary_cross_entropy_is_that_of_the_sigmoid() -> None:
    logits, labels = LOGITS[:, :2], LABELS % 2
    z = (logits[:, 1] - logits[:, 0]).numpy()
    p = 1 / (1 + np.exp(-z))
    y = labels.numpy()
    expected = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    assert losses.binary_cross_entropy(logits, labels).item() == pytest.approx(expected)


def test_binary_cross_entropy_refuses_more_classes() -> None:
    with pytest.raises(ValueError, match="over 4 classes; expected 2"):
        losses.binary_cross_entropy(LOGITS, LABELS)


def test_the_params_name_the_loss() -> None:
    smooth = CrossEntropyLoss(name="cross_entropy", label_smoothing=0.1, balanced=True)
    weights = losses.balanced_weights([1, 2, 3, 4]).double()
    built = losses.build_loss(smooth, [1, 2, 3, 4])
    assert built(LOGITS.float(), LABELS).item() == pytest.approx(
        losses.cross_entropy(LOGITS, LABELS, 0.1, weights).item(), rel=1e-5
    )
    focal = losses.build_loss(FocalLoss(name="focal", gamma=2.0, alpha=None), [4] * 4)
    assert focal(LOGITS, LABELS).item() == losses.focal(LOGITS, LABELS, 2.0).item()
    binary = losses.build_loss(BinaryCrossEntropyLoss(name="binary_cross_entropy"), [8, 8])
    assert binary is losses.binary_cross_entropy
