"""Which parts of the backbone keep their weights."""

from __future__ import annotations

from typing import Literal

from torch import nn

from pipeline.base.errors import ParamsError, nearest
from pipeline.network.params import FreezeUpTo, OpenConvolutions

Freeze = Literal["all", "none"] | FreezeUpTo | OpenConvolutions


def freeze(backbone: nn.Module, what: Freeze) -> tuple[nn.Module, ...]:
    """Stop parts of the backbone from learning; returns the parts that are frozen whole, which stay in eval mode.

    Layers count in the order in which the network lists them, which is the order of its forward pass.

    Raises:
        ParamsError: no layer has this name, or the backbone has fewer convolutions than are to be open.
    """
    match what:
        case "none":
            return ()
        case "all":
            return _freeze_all_but(backbone, set())
        case FreezeUpTo(up_to=layer):
            return _freeze_all_but(backbone, _layers_after(backbone, layer))
        case OpenConvolutions(open_convolutions=n):
            return _freeze_all_but(backbone, _last_convolutions(backbone, n))


def _layers_after(backbone: nn.Module, layer: str) -> set[str]:
    """Return the names of all parts after a layer."""
    names = [name for name, _ in backbone.named_modules() if name]
    layer = layer.removeprefix("backbone.")
    if layer not in names:
        raise ParamsError(f"model.freeze.up_to: found {layer!r}; the nearest layer is {nearest(layer, names)!r}")
    last = max(i for i, name in enumerate(names) if name == layer or name.startswith(f"{layer}."))
    return set(names[last + 1 :])


def _last_convolutions(backbone: nn.Module, n: int) -> set[str]:
    """Return the names of the last n convolutions, and of all parts between and after them."""
    modules = [(name, part) for name, part in backbone.named_modules() if name]
    convolutions = [i for i, (_, part) in enumerate(modules) if isinstance(part, nn.Conv2d)]
    if n > len(convolutions):
        raise ParamsError(f"model.freeze.open_convolutions: found {n}; the backbone has {len(convolutions)}")
    return {name for name, _ in modules[convolutions[-n] :]}


def _freeze_all_but(backbone: nn.Module, open_names: set[str]) -> tuple[nn.Module, ...]:
    """Freeze all parts that are not open; of a part that holds an open part, freeze only the parameters of its own."""
    holders = {name.rsplit(".", n)[0] for name in open_names for n in range(1, name.count(".") + 1)}
    frozen = []
    for name, part in backbone.named_modules():
        if name in open_names:
            continue
        for parameter in part.parameters(recurse=False):
            parameter.requires_grad_(False)
        if name not in holders and (name or not open_names):
            part.training = False
            frozen.append(part)
    return tuple(frozen)
