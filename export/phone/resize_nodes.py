"""Which nodes of a graph WebGPU leaves to the processor."""

from __future__ import annotations


def nodes_to_resize(graph: bytes) -> list[str]:
    """Return the names of the antialiased Resize nodes and of all nodes before them, in the order of the graph.

    onnxruntime's WebGPU takes a Resize node and then refuses to compute its antialiasing. With the nodes before it on
    the processor too, a picture goes to the graphics processor once, and at the network's size.
    """
    import onnx

    nodes = onnx.load_model_from_string(graph).graph.node
    wanted: set[str] = set()  # names of tensors
    names: list[str] = []
    for node in reversed(nodes):
        antialiased = any(attribute.name == "antialias" and attribute.i for attribute in node.attribute)
        if antialiased or not wanted.isdisjoint(node.output):
            wanted.update(filter(None, node.input))  # an omitted input has no name
            names.append(node.name)
    return names[::-1]
