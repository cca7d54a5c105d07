"""Activation maps: the outputs of a network's layers, each after the normalisation and activation that follow it."""

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

MAP_LAYERS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)
_NORMALISATIONS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)
_IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout2d)  # in eval mode their output is their input
_ACTIVATION_MODULES = ("torch.nn.modules.activation", "timm.layers.activations")


class _LayerDoneError(Exception):
    """The wanted layer has been computed; the rest of the network need not be."""


@dataclass
class LayerMaps:
    """The output of one layer."""

    layer: str
    kind: str  # such as Conv2d
    maps_nchw: Tensor  # (batch, channels, height, width)


def map_layers(network: Network) -> dict[str, nn.Module]:
    """The convolutions and poolings before the head, by name."""
    return {
        f"{prefix}.{name}" if name else prefix: part
        for prefix, trunk in (("backbone", network.backbone), ("pool", network.pool))
        for name, part in trunk.named_modules()
        if isinstance(part, MAP_LAYERS)
    }


def find_convolution(network: Network, name: str) -> str:
    """Give the full name of a convolution, which may be named with or without `backbone.`.

    Raises:
        ParamsError: there is no such convolution; the message has the nearest name.
    """
    known = [layer for layer, part in map_layers(network).items() if isinstance(part, nn.Conv2d)]
    full = name if name in known else f"backbone.{name}"
    if full in known:
        return full
    if not known:
        raise ParamsError(f"--filters: {name!r} is no convolution; this network has none")
    raise ParamsError(f"--filters: {name!r} is no convolution; the nearest is {nearest(full, known)!r}")


@torch.no_grad()
def all_maps(network: Network, input_nchw: Tensor) -> list[LayerMaps]:
    """Compute the maps of every convolution and pooling, in the order of computation.

    Layers whose output has a single position, such as a global pooling, are left out.
    """
    with _recording(network, map_layers(network), stops=False) as recorder:
        network.embed(input_nchw)
    return [maps for maps in recorder.outputs if maps.maps_nchw.shape[2:].numel() > 1]


def maps_of_layer(network: Network, layer: str, input_nchw: Tensor) -> Tensor:
    """Compute the maps of one convolution. The layers behind it are not computed.

    Args:
        network: in eval mode.
        layer: full name of the convolution, as `find_convolution` gives it.
        input_nchw: preprocessed pictures (batch, 3, size, size) float32.

    Returns:
        (batch, channels, height, width) float32, with gradients where the input has them.
    """
    with (
        _recording(network, {layer: map_layers(network)[layer]}, stops=True) as recorder,
        contextlib.suppress(_LayerDoneError),
    ):
        network.embed(input_nchw)
    return recorder.outputs[0].maps_nchw


@contextlib.contextmanager
def _recording(network: Network, layers: Mapping[str, nn.Module], *, stops: bool) -> Iterator[_OutputRecorder]:
    recorder = _OutputRecorder(layers, stops=stops)
    handles = []
    for part in network.modules():
        handles += [part.register_forward_pre_hook(recorder.before), part.register_forward_hook(recorder.after)]
    try:
        yield recorder
    finally:
        for handle in handles:
            handle.remove()


class _OutputRecorder:
    """Hooks that record a layer's output, and replace it by the output of a normalisation or activation behind it."""

    def __init__(self, layers: Mapping[str, nn.Module], *, stops: bool) -> None:
        self.outputs: list[LayerMaps] = []
        self._names = {part: name for name, part in layers.items()}
        self._stops = stops
        self._latest: Tensor | None = None  # the recorded output, while only followers have used it
        self._version = 0  # of that tensor: it changes when a module writes into the tensor
        self._follower: nn.Module | None = None  # the follower that is running; its own parts are ignored

    def before(self, part: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Check whether a module that follows a layer takes the recorded output, unchanged, as its input."""
        if self._latest is None or self._follower is not None:
            return
        takes_it = bool(inputs) and inputs[0] is self._latest and self._latest._version == self._version
        if takes_it and _is_follower(part):
            self._follower = part
        elif next(part.children(), None) is None:
            self._latest = None
            if self._stops:
                raise _LayerDoneError

    def after(self, part: nn.Module, _: tuple[Any, ...], output: Any) -> None:
        """Record the output of a wanted layer, or of its follower."""
        if part in self._names:
            self._record(LayerMaps(self._names[part], type(part).__name__, output.clone()), output)
        elif part is self._follower:
            self._follower = None
            layer = self.outputs.pop()
            self._record(LayerMaps(layer.layer, layer.kind, output.clone()), output)

    def _record(self, maps: LayerMaps, output: Tensor) -> None:
        # A copy is kept, since networks write into their own tensors: an activation in place, a sum of a residual.
        self.outputs.append(maps)
        self._latest, self._version, self._follower = output, output._version, None


def _is_follower(part: nn.Module) -> bool:
    return isinstance(part, (*_NORMALISATIONS, *_IDENTITIES)) or type(part).__module__.startswith(_ACTIVATION_MODULES)
