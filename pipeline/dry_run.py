"""A pass through a network on the meta device: shapes, and what feeds what, without computing a number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


class Flow(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered: how many weighted layers lie behind each tensor, on the longest way, and what is added."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.has_residual = False
        self._depths: dict[int, int] = {}
        self._alive: list[Tensor] = []  # an id is a tensor's own only while the tensor lives

    def depth(self, tensor: Tensor) -> int | None:
        """Weighted layers on the longest way to a tensor; None for one that does not come from the picture."""
        return self._depths.get(id(tensor))

    def set_depth(self, tensor: Tensor, depth: int) -> None:
        """Say how many layers lie behind a tensor."""
        self._depths[id(tensor)] = depth
        self._alive.append(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation; its outputs lie as deep as the deepest of its inputs."""
        result = func(*args, **(kwargs or {}))
        inputs = list(_tensors(args))
        depths = [depth for tensor in inputs if (depth := self.depth(tensor)) is not None]
        if func.overloadpacket in _ADDITIONS and len(depths) == 2 and inputs[0].shape == inputs[1].shape:
            self.has_residual = True
        if depths:
            for tensor in _tensors((result,)):
                self.set_depth(tensor, max(depths))
        return result


_ADDITIONS = (torch.ops.aten.add, torch.ops.aten.add_)


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


@contextmanager
def counting(flow: Flow, module: nn.Module, is_layer: Callable[[nn.Module], bool]) -> Iterator[None]:
    """Let every layer of `module` add one to the depth of what it gives."""

    def start(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        flow.set_depth(inputs[0], 0)

    def count(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        flow.set_depth(output, (flow.depth(inputs[0]) or 0) + 1)

    hooks = [module.register_forward_pre_hook(start)]
    hooks += [part.register_forward_hook(count) for part in module.modules() if is_layer(part)]
    try:
        with flow:
            yield
    finally:
        for hook in hooks:
            hook.remove()
