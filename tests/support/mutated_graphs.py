"""Changes of ONNX graphs: the result still parses as ONNX, and may state anything."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPERATORS = (
    "Relu", "Conv", "Gemm", "Resize", "Reshape", "Transpose", "Concat", "Expand", "Tile", "Loop", "If", "Gather",
    "Cast", "Pad", "GlobalAveragePool", "Slice", "ReduceMean", "MatMul", "QLinearConv", "Nothing",
)  # fmt: skip
ATTRIBUTES = (
    "axes", "perm", "keepdims", "to", "group", "pads", "strides", "dilations", "kernel_shape", "mode", "axis", "alpha",
    "antialias", "transB", "auto_pad",
)  # fmt: skip
FILES = ("contract.json", "../secret", "/etc/passwd", "golden/000.npy", "", "a\0b", "*/_ORT_MEM_ADDR_/*")
ABSURD = (0, 1, -1, 2, 3, 7, 2**20, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))

Change = Callable[[random.Random, bytes, str], bytes]


def _on_model(change: Callable[[random.Random, onnx.ModelProto, str], None]) -> Change:
    def changed(chance: random.Random, graph: bytes, root: str) -> bytes:
        model = onnx.load_from_string(graph)
        change(chance, model, root)
        content: bytes = model.SerializeToString()
        return content

    return changed


def _metadata(chance: random.Random, model: onnx.ModelProto, metadata: str) -> None:
    """Give the graph the metadata of another contract, or invalid metadata."""
    values = json.loads(metadata) if metadata.startswith("{") else {"contract_sha256": "0" * 64, "class_names": "x\n"}
    helper.set_model_props(model, values)


def _absurd_shape(chance: random.Random, model: onnx.ModelProto, root: str) -> None:
    """Give a constant a shape that its data do not have, or put an absurd number into a shape."""
    tensor = chance.choice(model.graph.initializer)
    if tensor.data_type == TensorProto.INT64 and chance.random() < 0.7:
        values = numpy_helper.to_array(tensor).copy()
        if values.size:
            values.flat[chance.randrange(values.size)] = chance.choice(ABSURD)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        return
    dims = [chance.choice(ABSURD) for _ in range(chance.randrange(6))]
    del tensor.dims[:]
    tensor.dims.extend(dims)


def _huge_tensor(chance: random.Random, model: onnx.ModelProto, root: str) -> None:
    """Ask for much memory in few bytes, and add a part of it to the logits, so that it is computed."""
    elements = chance.choice((2**20, 2**36, 2**40, 2**62))
    shape = numpy_helper.from_array(np.array([elements], np.int64), "huge_shape")
    model.graph.initializer.append(shape)
    made = helper.make_node("ConstantOfShape", ["huge_shape"], ["huge"])
    summed = helper.make_node("ReduceMax", ["huge"], ["little"], keepdims=0)
    last = next(node for node in model.graph.node if "logits" in node.output)
    last.output[0] = "logits_before"
    added = helper.make_node("Add", ["logits_before", "little"], ["logits"])
    model.graph.node.extend([made, summed, added])


def _external_data(chance: random.Random, model: onnx.ModelProto, root: str) -> None:
    tensor = chance.choice(model.graph.initializer)
    offset, length = chance.choice((0, -1, 2**62)), chance.choice((4, 96, 2**62))
    values = {"location": chance.choice((*FILES, f"{root}/secret")), "offset": str(offset), "length": str(length)}
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key in chance.sample(sorted(values), chance.choice((1, 2, 3))):
        tensor.external_data.add(key=key, value=values[key])


def _weights(chance: random.Random, model: onnx.ModelProto, root: str) -> None:
    """Replace a weight by an infinity, NaN, zero or an extreme number, or change the number of weights."""
    tensor = chance.choice(model.graph.initializer)
    data = bytearray(tensor.raw_data)
    if not data:
        return
    at = chance.randrange(len(data) // 4) * 4 if len(data) >= 4 else 0
    number = np.array([chance.choice((np.nan, np.inf, -np.inf, 0.0, 1e38, 1e-45))], np.float32).tobytes()
    data[at : at + 4] = number
    tensor.raw_data = bytes(data[: len(data) - chance.choice((0, 0, 0, 1, 4))]) + bytes(chance.choice((0, 0, 4)))


def _types(chance: random.Random, model: onnx.ModelProto, root: str) -> None:
    """Change the type of a constant or a port, or the shape of a port."""
    port = chance.choice([*model.graph.input, *model.graph.output])
    if chance.random() < 0.4:
        chance.choice(model.graph.initializer).data_type = chance.choice((*range(24), 99, -1))
    elif chance.random() < 0.5:
        port.type.tensor_type.elem_type = chance.choice((*range(24), 99))
    else:
        size = chance.choice(port.type.tensor_type.shape.dim)
        size.dim_value = chance.choice(ABSURD)


def _nodes(chance: random.Random, model: onnx.ModelProto, root: str) -> None:
    """Change an operator or attribute, drop or double inputs, drop, repeat or shuffle nodes."""
    nodes = model.graph.node
    node = chance.choice(nodes)
    what = chance.randrange(9)
    if what == 0:
        node.op_type = chance.choice(OPERATORS)
    elif what == 1:
        node.domain = chance.choice(("com.microsoft", "ai.onnx.ml", "no.such", "\n"))
    elif what == 2 and node.input:
        del node.input[chance.randrange(len(node.input))]
    elif what == 3:
        node.input.extend(chance.choice((list(node.output), list(node.input), ["nowhere"], [""] * 50)))
    elif what == 4:
        nodes.append(node)
    elif what == 5:
        nodes.remove(node)
    elif what == 6:
        order = list(nodes)
        chance.shuffle(order)
        del nodes[:]
        nodes.extend(order)
    elif what == 7:
        node.output[0] = chance.choice(("", "logits", "image", "a\nb", "\ud7ff" * 9))
    else:
        _attribute(chance, node)


def _attribute(chance: random.Random, node: onnx.NodeProto) -> None:
    name = chance.choice([each.name for each in node.attribute] or ATTRIBUTES)
    kept = [each for each in node.attribute if each.name != name]
    values: tuple[Any, ...] = (
        chance.choice(ABSURD), [chance.choice(ABSURD) for _ in range(4)], "cubic", b"\xff\xfe", float("nan"), [0.5],
        numpy_helper.from_array(np.zeros(3, np.float32)), ["a", "b"],
    )  # fmt: skip
    del node.attribute[:]
    node.attribute.extend(kept)
    if chance.random() < 0.8:
        node.attribute.append(helper.make_attribute(name, chance.choice(values)))


def _versions(chance: random.Random, model: onnx.ModelProto, root: str) -> None:
    if chance.random() < 0.5:
        model.ir_version = chance.choice((0, 1, 3, 7, 99, 2**31 - 1, 2**62))
    else:
        model.opset_import[0].version = chance.choice((0, 1, 6, 12, 17, 99, -1, 2**62))


def _nested(chance: random.Random, model: onnx.ModelProto, root: str) -> None:
    """Nest branches in branches, deeper than any network does."""
    depth = chance.choice((1, 10, 28))  # protobuf accepts at most 100 nested messages
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["end"], value=numpy_helper.from_array(np.float32(0)))],
        "end", [], [helper.make_tensor_value_info("end", TensorProto.FLOAT, [])],
    )  # fmt: skip
    for level in range(depth):
        name = f"level_{level}"
        node = helper.make_node(
            "If", ["always"], [name], then_branch=inner, else_branch=inner if level < 3 else _nothing()
        )
        inner = helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [])])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
    last = next(node for node in model.graph.node if "logits" in node.output)
    last.output[0] = "logits_before"
    inner.node[0].output[0] = "nought"
    model.graph.node.append(inner.node[0])
    model.graph.node.append(helper.make_node("Add", ["logits_before", "nought"], ["logits"]))


def _nothing() -> onnx.GraphProto:
    constant = helper.make_node("Constant", [], ["nothing"], value=numpy_helper.from_array(np.float32(0)))
    return helper.make_graph(
        [constant], "nothing", [], [helper.make_tensor_value_info("nothing", TensorProto.FLOAT, [])]
    )


GRAPH_CHANGES: dict[str, Change] = {
    "metadata": _on_model(_metadata),
    "absurd shape": _on_model(_absurd_shape),
    "huge tensor": _on_model(_huge_tensor),
    "external data": _on_model(_external_data),
    "weights": _on_model(_weights),
    "types": _on_model(_types),
    "nodes": _on_model(_nodes),
    "versions": _on_model(_versions),
    "nested": _on_model(_nested),
}
