from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.network.heads import Head
from pipeline.network.network import build_network
from pipeline.train import losses
from pipeline.train.losses import Objective, build_objective
from pipeline.train.params import BinaryCrossEntropyLoss, CrossEntropyLoss, FocalLoss, JointLoss
from tests.support.fitting_by_hand import MODEL, Planted, fit_head, planted_features

GENERATOR = np.random.default_rng(0)
LOGITS = torch.tensor(GENERATOR.normal(0, 3, (16, 4)))
LABELS = torch.tensor(GENERATOR.integers(0, 4, 16))
# Deep features with their classes and centres, for the contrastive-center loss.
_DEEP_GENERATOR = np.random.default_rng(0)
DEEP = torch.tensor(_DEEP_GENERATOR.normal(0, 2, (12, 5)))
DEEP_LABELS = torch.tensor(_DEEP_GENERATOR.integers(0, 3, 12))
CENTRES = torch.tensor(_DEEP_GENERATOR.normal(0, 1, (3, 5)))


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


def _joint(weight: float) -> JointLoss:
    return JointLoss(name="joint", centre_weight=weight, delta=1.0, centre_lr=0.5)


def test_the_contrastive_center_loss_is_its_formula() -> None:
    expected = 0.0
    for x, y in zip(DEEP.numpy(), DEEP_LABELS.numpy(), strict=True):
        squared = ((x - CENTRES.numpy()) ** 2).sum(axis=1)
        expected += 0.5 * squared[y] / (squared.sum() - squared[y] + 0.25)
    assert losses.contrastive_center(DEEP, DEEP_LABELS, CENTRES, 0.25).item() == pytest.approx(expected, rel=1e-12)


def test_the_contrastive_center_loss_is_a_sum_over_the_batch_and_not_a_mean() -> None:
    once = losses.contrastive_center(DEEP, DEEP_LABELS, CENTRES, 1.0)
    twice = losses.contrastive_center(DEEP.repeat(2, 1), DEEP_LABELS.repeat(2), CENTRES, 1.0)
    assert twice.item() == pytest.approx(2 * once.item(), rel=1e-12)


@pytest.mark.parametrize(
    "deep",
    [DEEP[:4], CENTRES[[0, 1, 2]], CENTRES[[1, 2, 0]], DEEP[:1], DEEP[:2] * 1e3, torch.zeros(2, 5).double()],
    ids=["a batch", "at their centres", "at other centres", "one image", "far away", "at the origin"],
)
def test_the_gradients_of_the_contrastive_center_loss_are_its_derivatives(deep: torch.Tensor) -> None:
    labels = torch.tensor([0, 1, 2, 0])[: len(deep)]
    inputs = (deep.clone().requires_grad_(), CENTRES.clone().requires_grad_())
    assert torch.autograd.gradcheck(lambda x, c: losses.contrastive_center(x, labels, c, 1.0), inputs)


def test_the_joint_loss_is_computed_in_float32_under_autocast() -> None:
    features, labels = planted_features()
    objective = build_objective(_head(), _joint(1.0), [8, 8, 8], seed=0)
    plain, _ = objective(features, labels)
    with torch.autocast("cpu", torch.bfloat16):
        loss, logits = objective(features, labels)
    assert logits.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(plain.item(), rel=0.02)


def _head() -> Head:
    return build_network(MODEL, 32, 3).head


def test_a_weight_of_zero_gives_the_weights_of_cross_entropy_bit_for_bit() -> None:
    softmax = CrossEntropyLoss(name="cross_entropy", label_smoothing=0.0, balanced=False)
    alone, with_zero, with_one = (fit_head(loss=loss)[0] for loss in (softmax, _joint(0.0), _joint(1.0)))
    assert all(torch.equal(alone[name], with_zero[name]) for name in alone)
    assert not all(torch.equal(alone[name], with_one[name]) for name in alone)


def test_the_joint_loss_draws_held_out_images_of_a_class_together() -> None:
    """The ratio of the mean distance within a class to that between classes, of the deep feature."""
    fitted_on, (held_out, labels) = Planted(*planted_features(per_class=32)), planted_features(seed=1, per_class=32)
    ratios = []
    for weight in (0.0, 1.0):
        module = fit_head(source=fitted_on, loss=_joint(weight), epochs=20, batch_size=16)[1]
        deep = module.deep(held_out).detach()
        distances = torch.cdist(deep, deep)
        same = labels.unsqueeze(0) == labels.unsqueeze(1)
        ratios.append((distances[same].mean() / distances[~same].mean()).item())
    assert ratios[1] < 0.8 * ratios[0]


def test_centres_are_fitted_beside_the_network_and_are_no_part_of_it() -> None:
    features, labels = planted_features()
    head = _head()
    before = torch.random.get_rng_state()
    objective = build_objective(head, _joint(1.0), [8, 8, 8], seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    objective(features, labels)[0].backward()
    assert objective.centres is not None
    assert objective.centres.centres.grad is not None
    assert not any("centre" in name for name in head.state_dict())
    assert any("centre" in name for name in objective.state_dict())


def test_the_centres_are_compared_with_the_deep_feature_before_its_dropout() -> None:
    features, labels = planted_features()
    torch.manual_seed(0)
    head = build_network(MODEL.model_copy(update={"fc_widths": (64,), "fc_dropouts": (0.5,)}), 32, 3).head.train()
    objective = build_objective(head, _joint(1.0), [8, 8, 8], seed=0)
    loss, logits = objective(features, labels)
    assert objective.centres is not None
    of_centres = loss - functional.cross_entropy(logits, labels)
    kept, dropped = head.hidden[:-1](features), head.hidden(features)
    assert of_centres.item() == pytest.approx(objective.centres(kept, labels).item(), rel=1e-5)
    assert of_centres.item() != pytest.approx(objective.centres(dropped, labels).item(), rel=1e-3)


def test_the_losses_of_parts_of_a_batch_add_up_to_the_loss_of_the_whole() -> None:
    features, labels = planted_features()
    objective: Objective = build_objective(_head(), _joint(1.0), [8, 8, 8], seed=0)
    whole, logits = objective(features, labels)
    parts = [objective(features[part], labels[part], share)[0] for part, share in
             ((slice(0, 6), 0.25), (slice(6, 24), 0.75))]  # fmt: skip
    assert sum(part.item() for part in parts) == pytest.approx(whole.item(), rel=1e-6)
    assert functional.cross_entropy(logits, labels).item() < whole.item()
