"""Which nodes WebGPU leaves to the processor."""

from __future__ import annotations

import onnx
from onnx import helper

from export.phone.resize_nodes import nodes_to_resize
from tests.support.phone_webgpu import resizing_graph
from tests.support.tiny_bundle import colour_graph


def test_every_antialiased_resize_and_what_is_before_it_stays_on_the_processor() -> None:
    graph = resizing_graph({})
    names = nodes_to_resize(graph)
    nodes = {node.name: node for node in onnx.load_model_from_string(graph).graph.node}
    resizes = {name for name, node in nodes.items() if node.op_type == "Resize"}
    assert len(resizes) == 4
    assert resizes < set(names)
    made = {name for node in nodes.values() if node.name not in names for name in node.output}
    assert not made & {name for node in names for name in nodes[node].input}  # nothing goes back to the processor
    assert not {"features", "bright", "logits", "preprocess/scaled"} & set(names)


def test_a_graph_without_an_antialiased_resize_leaves_nothing() -> None:
    assert nodes_to_resize(colour_graph({})) == []


def test_a_node_that_gives_an_optional_output_no_name_is_not_taken_for_an_omitted_input() -> None:
    nodes = [
        helper.make_node("Dropout", ["image"], ["other", ""], "other"),
        helper.make_node("Resize", ["image", "", "scales"], ["small"], "resize", antialias=1),
    ]
    graph = helper.make_model(helper.make_graph(nodes, "graph", [], [])).SerializeToString()
    assert nodes_to_resize(graph) == ["resize"]
