"""What the layers of a network give, each with the normalisation and activation that directly follow it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.base.errors import ParamsError, nearest
from pipeline.network.network import Network

MAPPING = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)
_NORMALISING = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)
_PASSING = (nn.Identity, nn.Dropout, nn.Dropout2d)  # what they give in eval mode is what they are given
_ACTIVATIONS = ("torch.nn.modules.activation", "timm.layers.activations")


class _ReachedError(Exception):
    """The wanted layer has been computed; the rest of the network need not be."""


@dataclass
class Maps:
    """What one layer gave."""

    layer: str
    kind: str  # such as Conv2d
    maps_nchw: Tensor  # (batch, channels, height, width)


def mapping_layers(network: Network) -> dict[str, nn.Module]:
    """The convolutions and poolings in front of the head, by name."""
    return {
        f"{place}.{name}" if name else place: part
        for place, trunk in (("backbone", network.backbone), ("pool", network.pool))
        for name, part in trunk.named_modules()
        if isinstance(part, MAPPING)
    }


def convolution_of(network: Network, name: str) -> str:
    """The full name of a convolution that is named with or without `backbone.`.

    Raises:
        ParamsError: there is none of this name; the line has the nearest that there is.
    """
    known = [layer for layer, part in mapping_layers(network).items() if isinstance(part, nn.Conv2d)]
    full = name if name in known else f"backbone.{name}"
    if full in known:
        return full
    if not known:
        raise ParamsError(f"--filters: {name!r} is no convolution; this network has none")
    raise ParamsError(f"--filters: {name!r} is no convolution; the nearest is {nearest(full, known)!r}")


@torch.no_grad()
def maps_of(network: Network, input_nchw: Tensor) -> list[Maps]:
    """What every convolution and pooling makes of pictures, in the order in which they are computed.

    Layers that give a single place, such as a pooling over the whole picture, are left out: they are no maps.
    """
    with _tapped(network, mapping_layers(network), stops=False) as tap:
        network.embed(input_nchw)
    return [found for found in tap.found if found.maps_nchw.shape[2:].numel() > 1]


def maps_of_layer(network: Network, layer: str, input_nchw: Tensor) -> Tensor:
    """What one convolution makes of pictures, (batch, channels, h, w); nothing behind it is computed."""
    with (
        _tapped(network, {layer: mapping_layers(network)[layer]}, stops=True) as tap,
        contextlib.suppress(_ReachedError),
    ):
        network.embed(input_nchw)
    return tap.found[0].maps_nchw


@contextlib.contextmanager
def _tapped(network: Network, layers: Mapping[str, nn.Module], *, stops: bool) -> Iterator[_Tap]:
    tap = _Tap(layers, stops=stops)
    handles = []
    for part in network.modules():
        handles += [part.register_forward_pre_hook(tap.before), part.register_forward_hook(tap.after)]
    try:
        yield tap
    finally:
        for handle in handles:
            handle.remove()


class _Tap:
    """Hooks that hold a layer's output, and replace it by what a normalisation or activation makes of it."""

    def __init__(self, layers: Mapping[str, nn.Module], *, stops: bool) -> None:
        self.found: list[Maps] = []
        self._names = {part: name for name, part in layers.items()}
        self._stops = stops
        self._latest: Tensor | None = None  # what the layer gave, while only followers have seen it
        self._version = 0  # of that tensor: it differs once somebody has written into it
        self._inside: nn.Module | None = None  # the follower that is at work, and whose own parts are its own affair

    def before(self, part: nn.Module, inputs: tuple[Any, ...]) -> None:
        """See whether what comes is still the held output, going into something that only reshapes its values."""
        if self._latest is None or self._inside is not None:
            return
        is_it = bool(inputs) and inputs[0] is self._latest and self._latest._version == self._version
        if is_it and _follows(part):
            self._inside = part
        elif next(part.children(), None) is None:
            self._latest = None
            if self._stops:
                raise _ReachedError

    def after(self, part: nn.Module, _: tuple[Any, ...], output: Any) -> None:
        """Hold what a wanted layer gives, or what a follower made of it."""
        if part in self._names:
            self._hold(Maps(self._names[part], type(part).__name__, output.clone()), output)
        elif part is self._inside:
            self._inside = None
            held = self.found.pop()
            self._hold(Maps(held.layer, held.kind, output.clone()), output)

    def _hold(self, maps: Maps, output: Tensor) -> None:
        # A copy is kept, since networks write into their own tensors: an activation in place, a sum of a residual.
        self.found.append(maps)
        self._latest, self._version, self._inside = output, output._version, None


def _follows(part: nn.Module) -> bool:
    return isinstance(part, (*_NORMALISING, *_PASSING)) or type(part).__module__.startswith(_ACTIVATIONS)
