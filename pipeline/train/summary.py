"""The layers of a network and which of them learn, for the lines of a training run and for reports."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.network.network import Network, dry_run

_WIDTH = 100  # columns of the table, on every terminal and in a log file
# Whole families of networks keep all their layers in one such part; its layers are listed one by one.
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

    def to_json(self) -> dict[str, Any]:
        """Return plain values by the names of the fields."""
        return {**asdict(self), "layers": [asdict(layer) for layer in self.layers]}

    def lines(self) -> list[str]:
        """Return a short table, with a row for neighbouring layers that all learn or are all frozen, and a total."""
        table = Table("layers", box=None, pad_edge=False)
        for heading in ("number", "parameters", "learn"):
            table.add_column(heading, justify="right")
        for _, neighbours in itertools.groupby(self.layers, key=_part_and_state):
            layers = list(neighbours)
            names = dict.fromkeys((layers[0].name, layers[-1].name))  # one name where there is one layer
            n_learning = sum(layer.n_trained_parameters for layer in layers)
            n_parameters = sum(layer.n_parameters for layer in layers)
            learn = "all" if n_learning == n_parameters else f"{n_learning:,}" if n_learning else "none"
            table.add_row(" to ".join(names), str(len(layers)), f"{n_parameters:,}", learn)
        total = f"{self.n_trained_parameters:,} of {self.n_parameters:,} parameters learn; {self.n_layers} layers deep"
        return [*_rendered(table), total]


def _part_and_state(layer: LayerSummary) -> tuple[str, str]:
    """Whether the layer is of the backbone or the head, and how much of it learns; one that learns in part is alone."""
    states = {0: "nothing", layer.n_parameters: "everything"}
    return layer.name.partition(".")[0], states.get(layer.n_trained_parameters, layer.name)


def _rendered(table: Table) -> list[str]:
    text = io.StringIO()
    Console(file=text, width=_WIDTH, color_system=None).print(table)
    return [line.rstrip() for line in text.getvalue().splitlines()]


def summarise(network: Network) -> NetworkSummary:
    """Summarise a network. No values are computed, so it may be on the meta device."""
    depths = _DepthMode()
    with _counting_layers(depths, network):
        n_layers = depths.of(dry_run(network, network.size)) or 0
    return NetworkSummary(
        n_parameters=_count(network, trained_only=False),
        n_trained_parameters=_count(network, trained_only=True),
        n_layers=n_layers,
        has_batch_norm=any(isinstance(part, _BatchNorm) for part in network.modules()),
        has_residual=depths.has_residual,
        layers=tuple(_layers(network)),
    )


def _layers(network: Network) -> Iterator[LayerSummary]:
    for name, part in (*_parts("backbone", network.backbone), *_parts("head", network.head)):
        if n_parameters := _count(part, trained_only=False):
            yield LayerSummary(name, _kind(part), n_parameters, _count(part, trained_only=True))


def _parts(prefix: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, parameter in module.named_parameters(recurse=False):
        yield f"{prefix}.{name}", nn.ParameterList([parameter])  # for example a transformer's class token
    for name, part in module.named_children():
        if name in _TRUNKS:
            yield from _parts(f"{prefix}.{name}", part)
        else:
            yield f"{prefix}.{name}", part


def _kind(part: nn.Module) -> str:
    """Return the class of a part; for a sequence of one class, the class and how many."""
    kinds = {type(child).__name__ for child in part.children()}
    if isinstance(part, nn.Sequential) and len(kinds) == 1:
        return f"{len(part)} x {kinds.pop()}"
    return type(part).__name__


def _count(part: nn.Module, *, trained_only: bool) -> int:
    return sum(p.numel() for p in part.parameters() if p.requires_grad or not trained_only)


class _DepthMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While entered, counts the weighted layers on the longest path to each tensor, and notices residual additions."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.has_residual = False
        self._depths: dict[int, int] = {}
        self._alive: list[Tensor] = []  # an id belongs to one tensor only while that tensor lives

    def of(self, tensor: Tensor) -> int | None:
        """Return the layers on the longest path to a tensor; None for one that does not come from the picture."""
        return self._depths.get(id(tensor))

    def set(self, tensor: Tensor, depth: int) -> None:
        """Record how many layers lie on the longest path to a tensor."""
        self._depths[id(tensor)] = depth
        self._alive.append(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation; its outputs are as deep as the deepest of its inputs."""
        result = func(*args, **(kwargs or {}))
        inputs = list(_tensors(args))
        depths = [depth for tensor in inputs if (depth := self.of(tensor)) is not None]
        if func.overloadpacket in _ADDITIONS and len(depths) == 2 and inputs[0].shape == inputs[1].shape:
            self.has_residual = True
        if depths:
            for tensor in _tensors((result,)):
                self.set(tensor, max(depths))
        return result


_ADDITIONS = (torch.ops.aten.add, torch.ops.aten.add_)


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


@contextmanager
def _counting_layers(depths: _DepthMode, network: nn.Module) -> Iterator[None]:
    """Let every convolution and linear layer of the network add one to the depth of its output."""

    def start(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        depths.set(inputs[0], 0)

    def count(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        depths.set(output, (depths.of(inputs[0]) or 0) + 1)

    layers = [part for part in network.modules() if isinstance(part, (nn.Conv2d, nn.Linear))]
    hooks = [network.register_forward_pre_hook(start), *(layer.register_forward_hook(count) for layer in layers)]
    try:
        with depths:
            yield
    finally:
        for hook in hooks:
            hook.remove()
