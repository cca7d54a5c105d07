"""Where a graph begins to diverge: chains and branches of made-up errors, with every pass counted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import onnx
from onnx import NodeProto, TensorProto, helper

from export.parity.first_divergence import TAPS, Layer, first_diverging_layer


def graph_of(*edges: tuple[str, str]) -> onnx.ModelProto:
    """Layers, each given by what it takes (names with a space between them) and its own name."""
    nodes = [helper.make_node("Sum", taken.split(), [name], name=name) for taken, name in edges]
    port = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1])
    last = helper.make_tensor_value_info(edges[-1][1], TensorProto.FLOAT, [1])
    return helper.make_model(helper.make_graph(nodes, "core", [port], [last]))


def chain(length: int) -> onnx.ModelProto:
    names = ["input", *map(str, range(length))]
    return graph_of(*itertools.pairwise(names))


def errors(diverging: Callable[[str], bool]) -> tuple[Callable[[Sequence[NodeProto]], list[float]], list[int]]:
    passes: list[int] = []

    def errors_of(nodes: Sequence[NodeProto]) -> list[float]:
        passes.append(len(nodes))
        return [1.0 if diverging(node.name) else 0.0 for node in nodes]

    return errors_of, passes


def diverging_in(core: onnx.ModelProto, diverging: Callable[[str], bool]) -> str | None:
    layer = first_diverging_layer(core, errors(diverging)[0], 0.5)
    return layer.name if layer else None


def test_every_layer_of_a_chain_is_found() -> None:
    core = chain(30)
    assert [diverging_in(core, lambda name, at=at: int(name) >= at) for at in range(30)] == [
        str(at) for at in range(30)
    ]


def test_a_sound_graph_has_none() -> None:
    assert diverging_in(chain(30), lambda _: False) is None


def test_a_long_chain_takes_few_passes_of_few_taps() -> None:
    errors_of, passes = errors(lambda name: int(name) >= 347)
    assert first_diverging_layer(chain(500), errors_of, 0.5) == Layer("347", "Sum", None, 1.0)
    assert max(passes) <= TAPS
    assert len(passes) <= 10


def test_in_a_branch_the_layer_is_found_and_not_where_the_branches_meet() -> None:
    core = graph_of(("input", "a"), ("a", "left"), ("a", "right"), ("right", "right2"), ("left right2", "sum"))
    assert diverging_in(core, lambda name: name in ("left", "sum")) == "left"
    assert diverging_in(core, lambda name: name == "sum") == "sum"


def test_a_layer_that_torch_has_nowhere_is_not_blamed() -> None:
    core = graph_of(("input", "a"), ("a", "fused"), ("fused", "fused2"), ("fused2", "b"), ("b", "c"), ("c", "d"))
    assert diverging_in(core, lambda name: name in ("fused", "fused2", "c", "d")) == "c"
    assert (
        diverging_in(core, lambda name: name in ("fused", "fused2", "b", "c", "d")) == "fused"
    )  # nothing agrees again
