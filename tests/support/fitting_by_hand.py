"""Fitting without a project: a head on features drawn around a point per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.network.heads import Head
from pipeline.network.network import build_network
from pipeline.params import read_params
from pipeline.train.best_epoch import Metrics
from pipeline.train.fit import Fit
from pipeline.train.losses import build_objective, class_weights
from pipeline.train.params import TrainParams
from pipeline.train.precision import build_accelerator
from tests.support.small_project import ROOT

_PARAMS = read_params(ROOT / "params.yaml")
_TINY = {"arch": "resnet18", "weights": "none", "freeze": "all", "head": "fc", "fc_widths": (6,), "fc_dropouts": (0.0,)}
MODEL = _PARAMS.model.model_copy(update=_TINY)
CLASSES = 3


@dataclass(frozen=True)
class Planted:
    """A source of tensors in memory."""

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Sequence[int], epoch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        return self.inputs[list(indices)].to(device), self.labels[list(indices)].to(device)


def planted_features(seed: int = 0, per_class: int = 8) -> tuple[Tensor, Tensor]:
    """Features (n, 512) around a point per class, with labels (n,) in turn; eight directions vary in every class."""
    fixed = torch.Generator().manual_seed(99)
    points, directions = torch.randn(CLASSES, 512, generator=fixed), torch.randn(8, 512, generator=fixed)
    labels = torch.arange(CLASSES).repeat(per_class)
    drawn = torch.Generator().manual_seed(seed)
    along = torch.randn(len(labels), 8, generator=drawn) / 2**0.5
    noise = torch.randn(len(labels), 512, generator=drawn) / 2
    return (points[labels] + along @ directions + noise) / 4, labels


def train_params(**changed: object) -> TrainParams:
    """The defaults, in float32 and small, with some values changed."""
    small = {"precision": "fp32", "epochs": 3, "batch_size": 8, "lr": 0.01}
    return _PARAMS.train.model_copy(update=small | changed)


def head_fit(params: TrainParams, counts: Sequence[int] = (8, 8, 8), **changed_model: object) -> Fit:
    """A head with random weights, ready to be fitted."""
    torch.manual_seed(0)
    network = build_network(MODEL.model_copy(update=changed_model), 32, CLASSES)
    objective = build_objective(network.head, params.loss, counts, params.seed)
    return Fit(network, objective, params, build_accelerator(params))


def planted_pictures(per_class: int = 8) -> tuple[Tensor, Tensor]:
    """Noisy pictures (n, 3, 48, 48), brightest in a channel per class, with labels (n,) in turn."""
    labels = torch.arange(CLASSES).repeat(per_class)
    noise = torch.randn(len(labels), 3, 48, 48, generator=torch.Generator().manual_seed(1))
    noise[torch.arange(len(labels)), labels] += 0.5
    return noise, labels


def network_fit(params: TrainParams, **changed_model: object) -> Fit:
    """A whole network with random weights, ready to be fitted on pictures."""
    torch.manual_seed(0)
    network = build_network(MODEL.model_copy(update=changed_model), 48, CLASSES)
    return Fit(
        network, build_objective(network, params.loss, (8, 8, 8), params.seed), params, build_accelerator(params)
    )


def fit_head(
    source: Planted | None = None, counts: Sequence[int] = (8, 8, 8), **changed: object
) -> tuple[dict[str, Tensor], Head, list[Metrics]]:
    """Fit a head for some epochs; returns its weights, the head and its curves."""
    params = train_params(**changed)
    source = source or Planted(*planted_features())
    fit = head_fit(params, counts)
    weights = class_weights(params.loss, counts)[source.labels]
    history = [fit.run_epoch(epoch, source, {}, weights) for epoch in range(1, params.epochs + 1)]
    head = fit.module
    assert isinstance(head, Head)
    return {name: value.clone() for name, value in head.state_dict().items()}, head, history
