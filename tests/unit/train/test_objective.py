from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.network.heads import Head
from pipeline.network.network import build_network
from pipeline.train import losses
from pipeline.train.losses import Objective, build_objective
from pipeline.train.params import CrossEntropyLoss, JointLoss
from tests.support.fitting_by_hand import MODEL, Planted, fit_head, planted_features

GENERATOR = np.random.default_rng(0)
DEEP = torch.tensor(GENERATOR.normal(0, 2, (12, 5)))
LABELS = torch.tensor(GENERATOR.integers(0, 3, 12))
CENTRES = torch.tensor(GENERATOR.normal(0, 1, (3, 5)))


def _joint(weight: float) -> JointLoss:
    return JointLoss(name="joint", centre_weight=weight, delta=1.0, centre_lr=0.5)


def test_the_contrastive_center_loss_is_its_formula() -> None:
    expected = 0.0
    for x, y in zip(DEEP.numpy(), LABELS.numpy(), strict=True):
        squared = ((x - CENTRES.numpy()) ** 2).sum(axis=1)
        expected += 0.5 * squared[y] / (squared.sum() - squared[y] + 0.25)
    assert losses.contrastive_center(DEEP, LABELS, CENTRES, 0.25).item() == pytest.approx(expected, rel=1e-12)


def test_it_is_a_sum_over_the_batch_and_not_a_mean() -> None:
    once = losses.contrastive_center(DEEP, LABELS, CENTRES, 1.0)
    twice = losses.contrastive_center(DEEP.repeat(2, 1), LABELS.repeat(2), CENTRES, 1.0)
    assert twice.item() == pytest.approx(2 * once.item(), rel=1e-12)


@pytest.mark.parametrize(
    "deep",
    [DEEP[:4], CENTRES[[0, 1, 2]], CENTRES[[1, 2, 0]], DEEP[:1], DEEP[:2] * 1e3, torch.zeros(2, 5).double()],
    ids=["a batch", "at their centres", "at other centres", "one image", "far away", "at the origin"],
)
def test_its_gradients_are_its_derivatives(deep: torch.Tensor) -> None:
    labels = torch.tensor([0, 1, 2, 0])[: len(deep)]
    inputs = (deep.clone().requires_grad_(), CENTRES.clone().requires_grad_())
    assert torch.autograd.gradcheck(lambda x, c: losses.contrastive_center(x, labels, c, 1.0), inputs)


def test_it_is_computed_in_float32_under_autocast() -> None:
    features, labels = planted_features()
    objective = build_objective(a_head(), _joint(1.0), [8, 8, 8], seed=0)
    plain, _ = objective(features, labels)
    with torch.autocast("cpu", torch.bfloat16):
        loss, logits = objective(features, labels)
    assert logits.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(plain.item(), rel=0.02)


def a_head() -> Head:
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
    head = a_head()
    before = torch.random.get_rng_state()
    objective = build_objective(head, _joint(1.0), [8, 8, 8], seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    objective(features, labels)[0].backward()
    assert objective.centres is not None
    assert objective.centres.centres.grad is not None
    assert not any("centre" in name for name in head.state_dict())
    assert any("centre" in name for name in objective.state_dict())


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    features, labels = planted_features()
    objective: Objective = build_objective(a_head(), _joint(1.0), [8, 8, 8], seed=0)
    whole, logits = objective(features, labels)
    parts = [objective(features[part], labels[part], share)[0] for part, share in
             ((slice(0, 6), 0.25), (slice(6, 24), 0.75))]  # fmt: skip
    assert sum(part.item() for part in parts) == pytest.approx(whole.item(), rel=1e-6)
    assert functional.cross_entropy(logits, labels).item() < whole.item()
