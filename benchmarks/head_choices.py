"""Which ways of fitting a head does small data want? `python benchmarks/head_choices.py [--quick] [--size PIXELS]`.

It needs PIPE_SHARED. The sets and the divisions are those of `benchmarks/field.py`: the head learns from half of the
groups of each class, and the other half is the field. Each way fits the same head from the same start on the same
features in the same order; `plain` is what `pipe train` does by default. The table has the mean share of groups that
are right, the gain over `plain` in points with the number of divisions that gain and lose, a two-sided Wilcoxon test
over the divisions, and the field's negative log-likelihood at temperature 1.

The ways are: label smoothing; label smoothing by class, less for rarer ones; mixup of features (Zhang et al., ICLR
2018); the exponential moving average of the weights; and a rate that falls as half a cosine.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from field import SETS, SHARED, DataSet, half_of_groups, nll_of_groups, prepare, right_groups
from numpy.typing import NDArray
from scipy import special, stats
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipeline.train.fit import derived_seed, plan_steps
from pipeline.train.folds import Part
from pipeline.train.inputs.batches import logits_and_labels
from pipeline.train.optimizers import build_optimizer, build_schedule
from pipeline.train.params import CosineSchedule

CPU = torch.device("cpu")

Loss = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]  # head, features, labels, images of each class


@dataclass(frozen=True)
class Way:
    """One way of fitting a head."""

    loss: Loss
    ema: float | None = None  # how much of the average stays in a step
    is_cosine: bool = False


def smoothed(share: float) -> Loss:
    """Cross entropy with label smoothing."""
    return lambda head, features, labels, _: functional.cross_entropy(head(features), labels, label_smoothing=share)


def smoothed_by_class(share: float) -> Loss:
    """Label smoothing of the largest class; that of the others is less, in proportion to their images."""

    def loss(head: nn.Module, features: Tensor, labels: Tensor, n_images: Tensor) -> Tensor:
        n_classes = len(n_images)
        of_image = (share * n_images / n_images.max())[labels, None]
        target = (1 - of_image) * functional.one_hot(labels, n_classes) + of_image / n_classes
        return functional.cross_entropy(head(features), target)

    return loss


def mixed(alpha: float) -> Loss:
    """Mixup: each image's features and label are mixed with those of another one of the batch."""

    def loss(head: nn.Module, features: Tensor, labels: Tensor, n_images: Tensor) -> Tensor:
        share = torch.distributions.Beta(alpha, alpha).sample((len(labels), 1))
        other = torch.randperm(len(labels))
        target = functional.one_hot(labels, len(n_images)).float()
        logits = head(share * features + (1 - share) * features[other])
        return functional.cross_entropy(logits, share * target + (1 - share) * target[other])

    return loss


WAYS = {
    "plain": Way(smoothed(0)),
    "label smoothing 0.05": Way(smoothed(0.05)),
    "label smoothing 0.1": Way(smoothed(0.1)),
    "label smoothing by class 0.1": Way(smoothed_by_class(0.1)),
    "mixup 0.2": Way(mixed(0.2)),
    "mixup 1": Way(mixed(1.0)),
    "average of weights 0.9": Way(smoothed(0), ema=0.9),
    "average of weights 0.99": Way(smoothed(0), ema=0.99),
    "cosine": Way(smoothed(0), is_cosine=True),
}


def main() -> None:
    """Divide each set, fit in every way, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two sets and two divisions instead of five and seven")
    parser.add_argument("--size", type=int, help="image.size instead of the default")
    options = parser.parse_args()
    names, n_divisions = (list(SETS)[:2], 2) if options.quick else (list(SETS), 7)
    shares: dict[str, dict[str, list[float]]] = {}
    losses: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="head-") as folder:
        for name in names:
            data = prepare(SHARED / SETS[name], Path(folder) / name, options.size)
            shares[name] = {way: [] for way in WAYS}
            for seed in range(n_divisions):
                for name_of_way, way in WAYS.items():
                    share, nll = judge(data, seed, way)
                    shares[name][name_of_way].append(share)
                    losses[name_of_way].append(nll)
            print_table(name, shares[name])
    every = {way: [share for of_set in shares.values() for share in of_set[way]] for way in WAYS}
    print_table("all", every, losses)


def judge(data: DataSet, seed: int, way: Way) -> tuple[float, float]:
    """Fit on half of the groups; return the share of the field's groups that are right, and their nll."""
    built = half_of_groups(data.judged_rows, seed)
    learned = [position for position, row in enumerate(data.learned_rows) if row.group in built]
    field = [position for position, row in enumerate(data.judged_rows) if row.group not in built]
    rows = [data.judged_rows[position] for position in field]
    head = fit(data, learned, way)
    logits, truth = logits_and_labels(head, Part(data.judged, field), 256, CPU)
    right, n_groups = right_groups(rows, truth, special.softmax(logits, 1))
    return right / n_groups, nll_of_groups(rows, truth, logits)


def fit(data: DataSet, learned: list[int], way: Way) -> nn.Module:
    """Fit a copy of the head as `pipe train` does, but for the way's own part."""
    params = data.params.train
    if way.is_cosine:
        params = params.model_copy(update={"schedule": CosineSchedule(name="cosine")})
    head, source = copy.deepcopy(data.network.head).train(), Part(data.learned, learned)
    n_images = torch.bincount(data.learned.labels[learned], minlength=len(data.classes)).float()
    optimizer = build_optimizer(params, list(head.named_parameters()))
    schedule = build_schedule(params, optimizer)
    average = AveragedModel(head, multi_avg_fn=get_ema_multi_avg_fn(way.ema)) if way.ema else None
    for epoch in range(1, params.epochs + 1):
        steps = plan_steps(params, epoch, torch.ones(len(learned)), 1, 0)
        torch.manual_seed(derived_seed(params.seed, epoch, 1))
        for step in steps:
            for micro_batch in step.micro_batches:
                features, labels = source.batch(micro_batch.indices, epoch, CPU)
                (way.loss(head, features, labels, n_images) * micro_batch.share).backward()
            optimizer.step()
            optimizer.zero_grad()
            if average is not None:
                average.update_parameters(head)
        schedule.step()
    return (head if average is None else average.module).eval()


def print_table(name: str, shares: dict[str, list[float]], losses: dict[str, list[float]] | None = None) -> None:
    """Print a line a way."""
    plain = np.array(shares["plain"])
    print(f"{name}, {len(plain)} divisions", flush=True)
    for way, of_way in shares.items():
        gains = 100 * (np.array(of_way) - plain)
        nll = "" if losses is None else f"  nll {np.mean(losses[way]):.3f}"
        print(
            f"  {way:29} {np.mean(of_way):6.1%}  {gains.mean():+5.2f} points  "
            f"{(gains > 0).sum():2} gain, {(gains < 0).sum():2} lose  {_p_value(gains)}{nll}",
            flush=True,
        )


def _p_value(gains: NDArray[np.float64]) -> str:
    return f"p {stats.wilcoxon(gains).pvalue:.3f}" if np.any(gains) else "p -    "


if __name__ == "__main__":
    main()
