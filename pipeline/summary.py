"""What a network is made of and what of it learns, for the training run's lines and for reports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.dry_run import Flow, counting
from pipeline.network.network import Network, dry_run

# Parts in which whole families keep all their layers; these are listed one by one.
_TRUNKS = {"features", "blocks", "layers", "stages", "hidden", "classify"}


@dataclass(frozen=True)
class LayerSummary:
    """One layer, or a block of them."""

    name: str  # as `train.lr_factors` and `model.freeze.up_to` take it
    kind: str
    n_parameters: int
    n_trained_parameters: int


@dataclass(frozen=True)
class NetworkSummary:
    """The rows of study 000's table 2, and the layers one by one."""

    n_parameters: int
    n_trained_parameters: int
    n_layers: int  # convolutions and linear layers on the longest way through, as papers count: VGG16 has 16
    has_batch_norm: bool
    has_residual: bool
    layers: tuple[LayerSummary, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values by the names of the fields."""
        return {**asdict(self), "layers": [asdict(layer) for layer in self.layers]}

    def lines(self) -> list[str]:
        """A line for every layer and one for all."""
        width = max(len(layer.name) for layer in self.layers)
        kind = max(len(layer.kind) for layer in self.layers)
        said = [
            f"{layer.name:{width}}  {layer.kind:{kind}}  {layer.n_parameters:>11,}  {_says(layer)}"
            for layer in self.layers
        ]
        total = f"{self.n_trained_parameters:,} of {self.n_parameters:,} parameters learn; {self.n_layers} layers deep"
        return [*said, total]


def summarise(network: Network) -> NetworkSummary:
    """Look at a network; nothing is computed, so it may be on the meta device."""
    flow = Flow()
    with counting(flow, network, _is_layer):
        n_layers = flow.depth(dry_run(network, network.size)) or 0
    return NetworkSummary(
        n_parameters=_count(network, trained_only=False),
        n_trained_parameters=_count(network, trained_only=True),
        n_layers=n_layers,
        has_batch_norm=any(isinstance(part, _BatchNorm) for part in network.modules()),
        has_residual=flow.has_residual,
        layers=tuple(_layers(network)),
    )


def _is_layer(part: nn.Module) -> bool:
    return isinstance(part, (nn.Conv2d, nn.Linear))


def _layers(network: Network) -> Iterator[LayerSummary]:
    for name, part in (*_parts("backbone", network.backbone), *_parts("head", network.head)):
        if n_parameters := _count(part, trained_only=False):
            yield LayerSummary(name, _kind(part), n_parameters, _count(part, trained_only=True))


def _parts(prefix: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, parameter in module.named_parameters(recurse=False):
        yield f"{prefix}.{name}", nn.ParameterList([parameter])  # such as a transformer's class token
    for name, part in module.named_children():
        if name in _TRUNKS:
            yield from _parts(f"{prefix}.{name}", part)
        else:
            yield f"{prefix}.{name}", part


def _kind(part: nn.Module) -> str:
    """Its class, or of a sequence of one kind that kind and how many."""
    kinds = {type(child).__name__ for child in part.children()}
    if isinstance(part, nn.Sequential) and len(kinds) == 1:
        return f"{len(part)} x {kinds.pop()}"
    return type(part).__name__


def _count(part: nn.Module, *, trained_only: bool) -> int:
    return sum(p.numel() for p in part.parameters() if p.requires_grad or not trained_only)


def _says(layer: LayerSummary) -> str:
    if not layer.n_trained_parameters:
        return "frozen"
    return "learns" if layer.n_trained_parameters == layer.n_parameters else f"{layer.n_trained_parameters:,} learn"
