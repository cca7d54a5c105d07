"""The last blocks of a backbone, opened: a network of their own, on what the frozen blocks before them give.

The backbone is traced, and cut where one tensor alone goes on. Both halves share their layers with the network, so what
the last blocks learn the network has learned.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.base.errors import ParamsError, one_line
from pipeline.network.freezing import freeze
from pipeline.network.network import Network
from pipeline.network.params import FreezeUpTo

OPEN_SHARE = 0.25  # of the convolutions and linear layers: about the last stage of a published network


@dataclass(frozen=True)
class LastBlocks:
    """A network in two halves."""

    frozen: Network  # `embed` maps pictures to the input of the last blocks
    opened: Network  # maps the input of the last blocks to logits
    freeze: FreezeUpTo  # what `model.freeze` would call it


def open_last_blocks(network: Network) -> LastBlocks:
    """Let the last quarter of a backbone's layers learn; batch norm keeps its statistics, and dropout stays off.

    Args:
        network: with a backbone that is frozen whole; its last blocks are open afterwards.

    Raises:
        ParamsError: the backbone cannot be traced, or is nowhere cut by a single tensor near its end.
    """
    backbone = network.backbone.eval()
    graph = _traced(backbone)
    cut = _cut(graph, backbone)
    if cut is None:
        raise _cannot("no single tensor leads into its last blocks")
    before, after = _halves(graph, cut, backbone)
    listed = [name for name, _ in backbone.named_modules()]
    last = max((str(node.target) for node in before.graph.nodes if node.op == "call_module"), key=listed.index)
    what = FreezeUpTo(up_to=last)
    backbone.requires_grad_(True)
    network.frozen_parts = freeze(backbone, what)
    if any(p.requires_grad for p in before.parameters()) or not all(p.requires_grad for p in after.parameters()):
        raise _cannot("its layers are not listed in the order of its forward pass")
    opened = Network(after, network.pool, network.head, network.size)
    opened.frozen_parts = tuple(after.modules())  # which stops batch norm's statistics and dropout, not the weights
    return LastBlocks(Network(before, nn.Identity(), network.head, network.size), opened, what)


def _cannot(reason: str) -> ParamsError:
    return ParamsError(f"train.adapt: the last blocks of this network cannot be opened ({reason}); use adapt: head")


class _LayerTracer(fx.Tracer):
    """Traces down to single layers. Batch norm of timm's kind holds its activation, and is a layer all the same."""

    def is_leaf_module(self, module: nn.Module, module_qualified_name: str) -> bool:
        is_layer = isinstance(module, _BatchNorm) or not any(True for _ in module.children())
        return is_layer or super().is_leaf_module(module, module_qualified_name)


def _traced(backbone: nn.Module) -> fx.Graph:
    try:
        return _LayerTracer().trace(backbone)
    except (fx.proxy.TraceError, TypeError, AssertionError, AttributeError, RuntimeError, ValueError) as error:
        reason = one_line(error)
        raise _cannot(f"its forward pass cannot be traced: {reason}") from error


def _cut(graph: fx.Graph, backbone: nn.Module) -> fx.Node | None:
    """Return the last node from which alone at least `OPEN_SHARE` of the layers follow."""
    nodes: list[fx.Node] = list(graph.nodes)
    n_layers = sum(_is_weighted(node, backbone) for node in nodes)
    n_after = 0
    bridges = set(_bridges(nodes))
    for node in reversed(nodes):
        if node in bridges and n_after >= OPEN_SHARE * n_layers and 0 < n_after < n_layers:
            return node
        n_after += _is_weighted(node, backbone)
    return None


def _bridges(nodes: list[fx.Node]) -> Iterator[fx.Node]:
    """Yield each node whose one tensor is all that later nodes take from it and from the nodes before it."""
    position_of = {node: position for position, node in enumerate(nodes)}
    reach = 0  # the last position that reads a result of the nodes before
    for position, node in enumerate(nodes):
        is_tensor = node.users and not any(user.target is operator.getitem for user in node.users)
        if reach <= position and is_tensor and node.op != "placeholder":
            yield node
        reach = max(reach, *(position_of[user] for user in node.users), 0)


def _is_weighted(node: fx.Node, backbone: nn.Module) -> bool:
    if node.op != "call_module":
        return False
    layer = backbone.get_submodule(str(node.target))
    return any(isinstance(part, (nn.Conv2d, nn.Linear)) for part in layer.modules())


def _halves(graph: fx.Graph, cut: fx.Node, backbone: nn.Module) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Return the backbone up to a node, and the backbone after it; both share its layers."""
    before, after = fx.Graph(), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    into = before
    for node in graph.nodes:
        copies[node] = into.node_copy(node, copies.__getitem__)
        if node is cut:
            before.output(copies[node])
            into, copies = after, {node: after.placeholder("input_nchw", Tensor)}
    return fx.GraphModule(backbone, before, "FrozenBlocks"), fx.GraphModule(backbone, after, "LastBlocks")
