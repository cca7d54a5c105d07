from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.base.errors import DataError, ParamsError
from pipeline.train.fit import derived_seed, plan_steps
from pipeline.train.params import CrossEntropyLoss, JointLoss
from tests.support.fitting_by_hand import Planted, fit_head, head_fit, network_fit, planted_features, train_params
from tests.support.small_project import ROOT

JOINT = JointLoss(name="joint", centre_weight=1.0, delta=1.0, centre_lr=0.5)
BALANCED = CrossEntropyLoss(name="cross_entropy", label_smoothing=0.1, balanced=True)


def _indices(n: int, epoch: int, **changed: object) -> list[int]:
    steps = plan_steps(train_params(**changed), epoch, torch.ones(n), 1, 0)
    return [index for step in steps for batch in step.micro_batches for index in batch.indices]


def test_every_epoch_sees_every_image_once_in_an_order_of_its_own() -> None:
    assert sorted(_indices(21, 1)) == sorted(_indices(21, 2)) == list(range(21))
    assert _indices(21, 1) == _indices(21, 1)
    assert _indices(21, 1) != _indices(21, 2)
    assert _indices(21, 1) != _indices(21, 1, seed=1)


@pytest.mark.parametrize("n_processes", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 5, 16, 17, 23, 33])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_processes_share_each_step_and_their_shares_add_up(n: int, n_processes: int, accumulate: int) -> None:
    params = train_params(accumulate_batches=accumulate)
    weights = torch.arange(1.0, n + 1)
    plans = [plan_steps(params, 1, weights, n_processes, process) for process in range(n_processes)]
    assert len({tuple(len(step.micro_batches) for step in steps) for steps in plans}) == 1
    seen = []
    for steps in zip(*plans, strict=True):
        batches = [batch for step in steps for batch in step.micro_batches]
        assert sum(batch.share for batch in batches) == pytest.approx(n_processes)
        seen += [index for batch in batches if batch.sum_factor for index in batch.indices]
    assert sorted(seen) == list(range(n))


def test_one_image_left_over_joins_the_batch_before_it() -> None:
    steps = plan_steps(train_params(), 1, torch.ones(17), 1, 0)
    sizes = [len(batch.indices) for step in steps for batch in step.micro_batches]
    assert sizes == [8, 9]


def test_other_numbers_derive_another_seed() -> None:
    seeds = {derived_seed(*parts) for parts in ((0, 1, 0), (1, 0, 0), (0, 0, 1), (0, 1, 1))}
    assert len(seeds) == 4


@pytest.mark.parametrize("loss", [BALANCED, JOINT], ids=["balanced cross entropy", "joint"])
@pytest.mark.parametrize("per_class", [8, 7], ids=["even", "uneven"])
def test_two_accumulated_batches_are_one_of_twice_the_size(loss: object, per_class: int) -> None:
    source = Planted(*planted_features(per_class=per_class))
    counts = [4, 2, 1]  # images per class, which a balanced loss weighs by
    split = fit_head(source, counts, loss=loss, batch_size=4, accumulate_batches=2)
    whole = fit_head(source, counts, loss=loss, batch_size=8)
    half = fit_head(source, counts, loss=loss, batch_size=4)
    for name in whole[0]:
        torch.testing.assert_close(split[0][name], whole[0][name], rtol=1e-4, atol=1e-5)
    assert any((half[0][name] - whole[0][name]).abs().max() > 1e-3 for name in whole[0])
    for of_split, of_whole in zip(split[2], whole[2], strict=True):
        assert of_split["train/loss"] == pytest.approx(of_whole["train/loss"], rel=1e-5)


def test_the_curves_are_means_over_images() -> None:
    source = Planted(*planted_features(per_class=7))
    params = train_params(epochs=1, lr=1e-30, batch_size=8)
    fit = head_fit(params)
    logits = fit.module(source.inputs).detach()
    metrics = fit.run_epoch(1, source, {"val": source}, torch.ones(len(source)))
    p = torch.softmax(logits, dim=1).numpy()
    truth = source.labels.numpy()
    of_truth = p[range(len(p)), truth]
    one_hot = torch.eye(3)[source.labels].numpy()
    for side in ("train", "val"):
        assert metrics[f"{side}/loss"] == pytest.approx(-torch.tensor(of_truth).log().mean().item(), rel=1e-5)
        assert metrics[f"{side}/accuracy"] == pytest.approx((p.argmax(axis=1) == truth).mean())
        assert metrics[f"{side}/mse"] == pytest.approx(((p - one_hot) ** 2).sum(axis=1).mean(), rel=1e-5)


def test_gradients_are_clipped_once_per_step() -> None:
    first = [fit_head(optimizer="sgd", momentum=0.0, lr=1.0, epochs=1, batch_size=8, accumulate_batches=3,
                      clip_gradient_norm=norm)[0] for norm in (1e-12, None)]  # fmt: skip
    torch.manual_seed(0)
    start = head_fit(train_params()).module.state_dict()
    assert all((first[0][name] - start[name]).abs().max() < 1e-6 for name in start)
    assert any((first[1][name] - start[name]).abs().max() > 1e-3 for name in start)


@pytest.mark.parametrize("loss", [CrossEntropyLoss(name="cross_entropy", label_smoothing=0.0, balanced=False), JOINT])
def test_a_fit_continues_from_its_state_bit_for_bit(loss: object) -> None:
    changed = {"loss": loss, "schedule": {"name": "cosine"}, "optimizer": "nadam"}
    params = type(train_params()).model_validate(train_params().model_dump() | changed | {"loss": loss.model_dump()})
    source, weights, dropout = Planted(*planted_features()), torch.ones(24), {"fc_dropouts": (0.5,)}
    whole = head_fit(params, **dropout)
    file = io.BytesIO()
    for epoch in (1, 2, 3):
        whole.run_epoch(epoch, source, {}, weights)
        if epoch == 1:
            torch.save(whole.state_dict(), file)
    file.seek(0)
    resumed = head_fit(params, **dropout)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for epoch in (2, 3):
        resumed.run_epoch(epoch, source, {}, weights)
    assert all(
        torch.equal(value, whole.module.state_dict()[name]) for name, value in resumed.module.state_dict().items()
    )


@dataclass(frozen=True)
class Poisoned(Planted):
    """One image has features that are not finite."""

    def batch(self, indices: list[int], epoch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        inputs, labels = super().batch(indices, epoch, device)
        return torch.where(torch.tensor([index == 5 for index in indices]).unsqueeze(1), torch.nan, inputs), labels


def test_a_loss_that_is_not_finite_stops_at_its_batch() -> None:
    source, params = Poisoned(*planted_features()), train_params()
    position = _indices(24, 1).index(5)
    with pytest.raises(DataError, match=f"loss of epoch 1, batch {position // 8 + 1} is nan; lower train.lr"):
        head_fit(params).run_epoch(1, source, {}, torch.ones(24))


def test_batch_norm_that_learns_from_one_position_of_one_image_is_refused() -> None:
    images = Planted(torch.randn(3, 3, 32, 32), torch.tensor([0, 1, 2]))
    with pytest.raises(ParamsError, match=r"train\.batch_size: found a batch of one image; expected more"):
        network_fit(train_params(batch_size=1), freeze="none").run_epoch(1, images, {}, torch.ones(3))
    frozen = network_fit(train_params(batch_size=1)).run_epoch(1, images, {}, torch.ones(3))
    assert frozen["train/loss"] > 0


def test_weights_that_the_last_step_of_an_epoch_has_spoilt_are_refused() -> None:
    source = Planted(*planted_features())
    with pytest.raises(
        DataError, match=r"train: after epoch 1 a weight or a loss is not a finite number; lower train\.lr"
    ):
        head_fit(train_params(optimizer="rmsprop", lr=1e38, batch_size=24)).run_epoch(1, source, {}, torch.ones(24))
    fit = head_fit(train_params(optimizer="rmsprop", lr=1e3, batch_size=24))
    assert fit.run_epoch(1, source, {"val": source}, torch.ones(24))["val/loss"] > 0


def test_a_validation_loss_that_is_not_finite_is_refused() -> None:
    source = Planted(*planted_features())
    with pytest.raises(DataError, match="train: after epoch 1 a weight or a loss is not a finite number"):
        head_fit(train_params()).run_epoch(1, source, {"val": Poisoned(*planted_features())}, torch.ones(24))


_TWO = """
import json, os, sys
sys.path[:0] = [{root!r}]
import torch
torch.set_num_threads(1)
from tests.support.fitting_by_hand import *
from pipeline.train.params import JointLoss
joint = JointLoss(name="joint", centre_weight=1.0, delta=1.0, centre_lr=0.5)
slowly, faster = (train_params(batch_size={batch_size}, optimizer="sgd", lr=lr) for lr in (0.002, 0.05))
fits = {{
    "head": (head_fit(train_params(batch_size={batch_size}, loss=joint)), planted_features()),
    "frozen batch norm": (network_fit(slowly), planted_pictures()),
    "convolutions": (network_fit(faster, arch="small_cnn", freeze="none"), planted_pictures()),
}}
results = {{}}
for name, (fit, planted) in fits.items():
    source = Planted(*planted)
    curve = [fit.run_epoch(epoch, source, {{"val": source}}, torch.ones(24)) for epoch in (1, 2, 3)]
    results[name] = curve, [value.tolist() for value in fit.module.parameters() if value.requires_grad]
if os.environ.get("RANK", "0") == "0":
    open({out!r}, "w").write(json.dumps(results))
"""


def _fitted_by(
    folder: Path, n_processes: int, batch_size: int
) -> dict[str, tuple[list[dict[str, float]], list[object]]]:
    script, out = folder / f"fit_{n_processes}.py", folder / f"fitted_by_{n_processes}.json"
    script.write_text(_TWO.format(root=str(ROOT), out=str(out), batch_size=batch_size))
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_processes}"]
    command = [sys.executable, *(launcher if n_processes > 1 else []), str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    fitted: dict[str, tuple[list[dict[str, float]], list[object]]] = json.loads(out.read_text())
    return fitted


def test_two_processes_give_the_curve_of_one_with_the_doubled_batch(tmp_path: Path) -> None:
    alone, together = _fitted_by(tmp_path, 1, 8), _fitted_by(tmp_path, 2, 4)
    assert list(alone) == ["head", "frozen batch norm", "convolutions"]
    for name, (curve, weights) in alone.items():
        for of_one, of_two in zip(curve, together[name][0], strict=True):
            for metric in ("train/loss", "train/accuracy", "train/mse", "val/loss", "val/accuracy"):
                assert of_two[metric] == pytest.approx(of_one[metric], rel=1e-5, abs=1e-5), (name, metric)
        for of_one, of_two in zip(weights, together[name][1], strict=True):
            torch.testing.assert_close(torch.tensor(of_one), torch.tensor(of_two), rtol=1e-4, atol=1e-5)
        assert curve[0]["train/loss"] > curve[2]["train/loss"] + 0.01, name
