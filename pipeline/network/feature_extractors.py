"""Networks up to their last feature map: published ones that are cut there, and study 004's small CNN.

Torchvision's networks with `features` and its ResNets are taken apart by their attributes. Any other classifier of
torchvision is traced, and its graph is cut before the pooling.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, fx, nn

from pipeline.base.errors import ParamsError

TRACED_SIZE = 224  # pixels; every published classifier takes pictures of this size
# Study 004 states no widths; these are those of the Keras example that it follows.
_SMALL_CNN_WIDTHS = (32, 64, 128, 128)


class Features(nn.Module):
    """Torchvision's `features` under its published key names."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.features = network.features

    def forward(self, input_nchw: Tensor) -> Tensor:
        """Map input (batch, 3, h, w) to feature map (batch, channels, h', w')."""
        features: Tensor = self.features(input_nchw)
        return features


class ResNetFeatures(nn.Module):
    """Torchvision's ResNet without pooling and classifier, under its published key names."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu, self.maxpool = network.conv1, network.bn1, network.relu, network.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            network.layer1, network.layer2, network.layer3, network.layer4,
        )  # fmt: skip

    def forward(self, input_nchw: Tensor) -> Tensor:
        """Map input (batch, 3, h, w) to feature map (batch, channels, h', w')."""
        stem = self.maxpool(self.relu(self.bn1(self.conv1(input_nchw))))
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(stem))))
        return features


class SmallCnn(nn.Module):
    """Study 004's network, for inputs (batch, 3, h, w) of at least 46 x 46 pixels.

    Its eight layers are `conv1`, `pool1` … `pool4`. The convolutions are 3 x 3 without padding, as Keras has them, and
    start as Keras starts them.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        channels = 3
        for i, width in enumerate(_SMALL_CNN_WIDTHS, start=1):
            layers[f"conv{i}"] = nn.Conv2d(channels, width, kernel_size=3)
            layers[f"relu{i}"] = nn.ReLU()
            layers[f"pool{i}"] = nn.MaxPool2d(2)
            channels = width
        self.features = nn.Sequential(layers)
        self.apply(start_as_keras)

    def forward(self, input_nchw: Tensor) -> Tensor:
        """Map input (batch, 3, h, w) to feature map (batch, 128, h', w')."""
        features: Tensor = self.features(input_nchw)
        return features


def start_as_keras(layer: nn.Module) -> None:
    """Give a convolution or linear layer the first weights that Keras gives: Glorot's uniform ones, and zero biases."""
    if isinstance(layer, (nn.Conv2d, nn.Linear)):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def cut_before_pooling(network: nn.Module, arch: str, head: str) -> nn.Module:
    """Cut a torchvision classifier after its last feature map; parameters are shared and keep their names.

    Args:
        network: the whole network.
        arch: its name, for the message.
        head: attribute name of the published classifier.

    Returns:
        A module from input (batch, 3, h, w) to feature map (batch, channels, h', w').

    Raises:
        ParamsError: the network pools no feature map, for example because it is a transformer of tokens.
    """
    tracer = _StochasticDepthTracer()
    graph = tracer.trace(network.eval())
    traced = fx.GraphModule(tracer.root, graph)
    last = _last_feature_map(traced, head)
    if last is None:
        raise ParamsError(f"model.head: {arch} has no feature map before its classifier; use head: plain")
    output = next(node for node in graph.nodes if node.op == "output")
    output.args = (last,)
    graph.eliminate_dead_code()
    return fx.GraphModule(tracer.root, graph, class_name="Features").train()


class _StochasticDepthTracer(fx.Tracer):
    """Keeps stochastic depth as a layer: traced into, it would stay on or off, as it was during tracing."""

    def is_leaf_module(self, module: nn.Module, module_qualified_name: str) -> bool:
        from torchvision.ops import StochasticDepth

        return isinstance(module, StochasticDepth) or super().is_leaf_module(module, module_qualified_name)


def _last_feature_map(traced: fx.GraphModule, head: str) -> fx.Node | None:
    """Return the node whose output is pooled for the classifier."""
    shapes = _shapes(traced)
    node = next((node for node in reversed(traced.graph.nodes) if _is_map(shapes.get(node, ()))), None)
    if node is None:
        return None
    channels = shapes[node][1]
    if any(_is_pooled(shapes.get(user, ()), channels) for user in node.users):
        return _skip_back(node, traced, head)
    before = _skip_back(node, traced, head)
    return None if before is node else before


def _skip_back(node: fx.Node, traced: fx.GraphModule, head: str) -> fx.Node:
    """Go back over a pooling to more than one cell (VGG's 7 x 7) and a classifier of convolutions (SqueezeNet's)."""
    while node.op == "call_module" and (
        str(node.target).startswith(f"{head}.")
        or isinstance(traced.get_submodule(str(node.target)), nn.AdaptiveAvgPool2d)
    ):
        node = node.all_input_nodes[0]
    return node


def _shapes(traced: fx.GraphModule) -> dict[fx.Node, tuple[int, ...]]:
    """Return the shape of every tensor for one picture, without computing values."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.passes.shape_prop import ShapeProp

    fake = FakeTensorMode(allow_non_fake_inputs=True)
    ShapeProp(traced, fake).propagate(torch.zeros(1, 3, TRACED_SIZE, TRACED_SIZE))
    metas = {node: node.meta.get("tensor_meta") for node in traced.graph.nodes}
    return {node: tuple(meta.shape) for node, meta in metas.items() if hasattr(meta, "shape")}


def _is_map(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[2] == shape[3] > 1


def _is_pooled(shape: tuple[int, ...], channels: int) -> bool:
    return shape in ((1, channels), (1, channels, 1, 1))
