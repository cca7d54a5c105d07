"""A small core with random weights: two convolutions, pooling and a linear layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

N_CLASSES = 4
INPUTS_NCHW = np.random.default_rng(1).normal(size=(20, 3, 8, 8)).astype(np.float32)


def small_core(scale: float = 1.0, n_classes: int = N_CLASSES) -> onnx.ModelProto:
    """Build the core. The first convolution multiplies by `scale`, and the second divides by it."""
    generator = np.random.default_rng(0)
    first = generator.normal(size=(8, 3, 3, 3)).astype(np.float32) * np.float32(scale)
    second = generator.normal(size=(8, 8, 1, 1)).astype(np.float32) / np.float32(scale)
    head = generator.normal(size=(8, n_classes)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "first"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "second"], ["c"], name="second"),
        helper.make_node("GlobalAveragePool", ["c"], ["d"], name="pool"),
        helper.make_node("Flatten", ["d"], ["e"], name="flatten"),
        helper.make_node("Gemm", ["e", "head"], ["logits"], name="head"),
    ]
    ports = (
        helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 8, 8]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", n_classes]),
    )
    weights = {"first": first, "second": second, "head": head}
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "core", [ports[0]], [ports[1]], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def change(core: onnx.ModelProto, name: str, where: Any, value: float) -> None:
    """Set some of a tensor's weights to a value."""
    for tensor in core.graph.initializer:
        if tensor.name == name:
            weights = numpy_helper.to_array(tensor).copy()
            weights[where] = value
            tensor.CopyFrom(numpy_helper.from_array(weights, name))
