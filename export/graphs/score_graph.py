"""The ONNX graph of the known score, built node by node, and how it is joined with an exported core."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper, shape_inference

from pipeline.base.errors import DataError
from pipeline.network.known_score import SHORTEST, KnownScore
from runtime.answers import KNOWN_SCORE

OUTPUT = KNOWN_SCORE  # float32 (batch,)
_HEAD = "head."  # the exported nodes are named after their modules
_QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
_RESHAPES = ("Reshape", "Flatten", "Squeeze")  # of a pooled map to features, which an exporter may count to the head


def pooled_features(core: onnx.ModelProto) -> str:
    """Return the name of the tensor (batch, channels) that enters the head, before it is quantised.

    Raises:
        DataError: no node of the graph is named after a module of the head.
    """
    makers = {output: node for node in core.graph.node for output in node.output}
    constants = {tensor.name for tensor in core.graph.initializer}  # half precision casts some, named after the head
    of_head = (
        node
        for node in core.graph.node
        if node.name.startswith(_HEAD)
        and node.op_type not in (*_QUANTISERS, *_RESHAPES)
        and node.input[0] not in constants
    )
    first = next(of_head, None)
    if first is None:
        raise DataError("the graph has no node of the head, so its pooled features cannot be found; export it again")
    name = str(first.input[0])
    while name in makers and makers[name].op_type in _QUANTISERS:
        name = str(makers[name].input[0])
    return name


def with_known_score(core: onnx.ModelProto, score: KnownScore) -> onnx.ModelProto:
    """Return the same core with a second output, `known_score`, float32 (batch,).

    The score's nodes are float32 in every precision. They take the pooled features before these are quantised.

    Args:
        core: a float32, half-precision or int8 core with the names that `core_graph` gives; it stays as it is.
        score: what was fitted to the training pictures.

    Raises:
        DataError: the pooled features cannot be found, or have another number of channels than the score.
    """
    features = _port_of(core, pooled_features(core))
    n_channels = features.type.tensor_type.shape.dim[-1].dim_value
    if n_channels != len(score.middle):
        raise DataError(f"the graph has {n_channels} pooled features; the known score expects {len(score.middle)}")
    tapped = onnx.ModelProto()
    tapped.CopyFrom(core)
    tapped.graph.output.append(features)
    added = compose.add_prefix(
        score_graph(score, core, features), f"{OUTPUT}/", rename_inputs=False, rename_outputs=False
    )
    outputs = [core.graph.output[0].name, OUTPUT]
    scored: onnx.ModelProto = compose.merge_models(tapped, added, [(features.name, "features")], outputs=outputs)
    scored.graph.name = core.graph.name
    del scored.opset_import[:]  # both parts have listed their domains
    scored.opset_import.extend(core.opset_import)
    return scored


def has_known_score(model: onnx.ModelProto) -> bool:
    """Whether a core or a whole graph gives a known score."""
    return any(port.name == OUTPUT for port in model.graph.output)


def weights_of_score(model: onnx.ModelProto, score: KnownScore) -> dict[str, NDArray[Any]]:
    """Return what takes the place of a graph's own score, by its initializers; nothing where the graph computes none.

    Args:
        model: a core, or a whole graph.
        score: for as many channels.
    """
    names = {tensor.name for tensor in model.graph.initializer}
    weights = {f"{OUTPUT}/{field.name}": getattr(score, field.name) for field in dataclasses.fields(score)}
    return {name: values for name, values in weights.items() if name in names}


def score_graph(score: KnownScore, core: onnx.ModelProto, features: onnx.ValueInfoProto) -> onnx.ModelProto:
    """Build the graph from `features` (batch, channels) to `known_score`, as `KnownScore` computes it.

    Args:
        score: what was fitted to the training pictures.
        core: gives the versions of the opset and of the file.
        features: of the core, for their type and shape.
    """
    arrays = {field.name: getattr(score, field.name) for field in dataclasses.fields(score)}
    shortest, square = np.array(SHORTEST, np.float32), np.array(SHORTEST**2, np.float32)
    constants = {**arrays, "shortest": shortest, "least_square": square, "axis": np.array([1], np.int64)}
    nodes = [
        _node("Cast", ["features"], "pooled", to=TensorProto.FLOAT),  # squares overflow in half precision
        _node("MatMul", ["pooled", "prototypes"], "prototype_products"),
        _node("ReduceMax", ["prototype_products", "axis"], "nearest_product", keepdims=0),
        _node("ReduceL2", ["pooled", "axis"], "length_or_0", keepdims=0),
        _node("Max", ["length_or_0", "shortest"], "length"),
        _node("Div", ["nearest_product", "length"], "nearest"),
        _node("Sub", ["pooled", "middle"], "centred"),
        _node("MatMul", ["centred", "class_directions"], "class_products"),
        _node("ReduceMax", ["class_products", "axis"], "class_product", keepdims=0),
        _node("MatMul", ["centred", "common_directions"], "common"),
        _node("ReduceSumSquare", ["centred", "axis"], "all_squares", keepdims=0),
        _node("ReduceSumSquare", ["common", "axis"], "common_squares", keepdims=0),
        _node("Sub", ["all_squares", "common_squares"], "squares_or_0"),
        _node("Max", ["squares_or_0", "least_square"], "squares"),
        _node("Sqrt", ["squares"], "whitened_length"),
        _node("Div", ["class_product", "whitened_length"], "whitened"),
        _node("Add", ["nearest", "whitened"], OUTPUT),
    ]
    source, output = onnx.ValueInfoProto(), helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch"])
    source.CopyFrom(features)
    source.name = "features"
    output.type.tensor_type.shape.dim[0].CopyFrom(features.type.tensor_type.shape.dim[0])
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, OUTPUT, [source], [output], initializers)
    return helper.make_model(graph, opset_imports=core.opset_import, ir_version=core.ir_version)


def _node(operator: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    """Return a node with the name of its output: onnxruntime for WebGPU places nodes by their names."""
    return helper.make_node(operator, inputs, [output], output, **attributes)


def _port_of(core: onnx.ModelProto, name: str) -> onnx.ValueInfoProto:
    """Return type and shape of an inner tensor, inferred anew: a core may state those of the core it was made from."""
    bare = onnx.ModelProto()
    bare.CopyFrom(core)
    del bare.graph.value_info[:]
    inferred: onnx.ModelProto = shape_inference.infer_shapes(bare, strict_mode=True, data_prop=True)
    port: onnx.ValueInfoProto = next(port for port in inferred.graph.value_info if port.name == name)
    return port
