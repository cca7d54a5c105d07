"""Fitting without a project: a head on features drawn around a point per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from small_project import ROOT
from torch import Tensor, nn

from pipeline.curves import Numbers
from pipeline.epochs import Fit
from pipeline.fitting import TrainParams
from pipeline.heads import Head
from pipeline.network import build_network
from pipeline.objective import build_objective
from pipeline.params import read_params
from pipeline.train import build_accelerator

_PARAMS = read_params(ROOT / "params.yaml")
MODEL = _PARAMS.model.model_copy(
    update={"arch": "resnet18", "weights": "none", "freeze": "all", "head": "fc", "fc_widths": (6,), "fc_dropouts": (0.0,)}
)  # fmt: skip
CLASSES = 3


@dataclass(frozen=True)
class Planted:
    """A source of tensors that lie in memory."""

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, numbers: Sequence[int], epoch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        return self.inputs[list(numbers)].to(device), self.labels[list(numbers)].to(device)


def planted_features(seed: int = 0, per_class: int = 8) -> tuple[Tensor, Tensor]:
    """Features (n, 512) around a point per class, with labels (n,) in turn."""
    points = torch.randn(CLASSES, 512, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(CLASSES).repeat(per_class)
    noise = torch.randn(len(labels), 512, generator=torch.Generator().manual_seed(seed))
    return points[labels] + 2 * noise, labels


def train_params(**changed: object) -> TrainParams:
    """The defaults, in float32 and small, with some values changed."""
    small = {"precision": "fp32", "epochs": 3, "batch_size": 8, "lr": 0.01}
    return _PARAMS.train.model_copy(update=small | changed)


def head_fit(params: TrainParams, **changed_model: object) -> Fit:
    """A head with random weights, ready to be fitted."""
    torch.manual_seed(0)
    network = build_network(MODEL.model_copy(update=changed_model), 32, CLASSES)
    objective = build_objective(network.head, params.loss, [8] * CLASSES, params.seed)
    return Fit(network, objective, params, build_accelerator(params))


def fit_head(
    weights: Tensor | None = None, source: Planted | None = None, **changed: object
) -> tuple[dict[str, Tensor], Head | nn.Module, list[Numbers]]:
    """Fit a head for some epochs; gives its weights, itself and the curves."""
    params = train_params(**changed)
    source = source or Planted(*planted_features())
    fit = head_fit(params)
    weights = torch.ones(len(source)) if weights is None else weights
    history = [fit.run_epoch(epoch, source, {}, weights) for epoch in range(1, params.epochs + 1)]
    return {name: value.clone() for name, value in fit.module.state_dict().items()}, fit.module, history
