"""The ONNX graph of the preprocessing, built node by node, and how it is joined with the exported network.

Torch's exporters cannot export the preprocessing: one over-constrains a picture's symbolic height and width, the other
has no antialiased resize.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from pipeline.network.preprocess import Preprocess
from runtime.contract import Contract


def ir_version(opset: int) -> int:
    """Return the oldest IR version that may carry an opset, so that older runtimes open the file: 8 for opset 18."""
    return int(helper.find_min_ir_version_for([helper.make_opsetid("", opset)]))


def preprocess_graph(preprocess: Preprocess, opset: int) -> onnx.ModelProto:
    """Build the graph from `image`, uint8 (batch, height, width, 3) RGB, to `input`, float32 (batch, 3, size, size)."""
    crop_nodes, crop_constants, cropped = _crop(preprocess)
    scale, bias = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in preprocess.scale_and_bias())
    size = preprocess.size
    shapes = {"size": [size], "rows": [1, -1, 1, 0], "planes": [-1, 1], "shape": [-1, 3, size, size]}
    constants = {
        **crop_constants,
        **{name: np.array(values, np.int64) for name, values in shapes.items()},
        "scale": scale,
        "bias": bias,
    }
    nodes = [
        *crop_nodes,
        _node("Transpose", [cropped], ["pixels_nchw"], perm=[0, 3, 1, 2]),
        *_resize_width(),
        *_resize_height(),
        _node("Mul", ["resized", "scale"], ["scaled"]),
        _node("Add", ["scaled", "bias"], ["input"]),
    ]
    graph = helper.make_graph(
        nodes,
        "preprocess",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", "height", "width", 3])],
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, preprocess.size, preprocess.size])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version(opset))


def _node(operator: str, inputs: list[str], outputs: Sequence[str], **attributes: Any) -> onnx.NodeProto:
    """Return a node with the name of its first output: onnxruntime for WebGPU places nodes by their names."""
    return helper.make_node(operator, inputs, outputs, outputs[0], **attributes)


# Both resizes take rows on the axis of the channels, for two reasons. Onnxruntime deals channels to its threads: with
# three channels, one of two threads would get two. And its CUDA kernels left a picture unfinished when its height
# became smaller (github.com/microsoft/onnxruntime/issues/25264); a single row has no height to lose.


def _resize_width() -> list[onnx.NodeProto]:
    """Return the nodes from `pixels_nchw`, uint8, to `narrow_rows`, float32 (1, batch * 3 * height, 1, size).

    One third of the rows follows another; of one picture a third is a channel. A whole 1080p picture as float has
    25 MB, which would leave the processor's caches between the cast and the resize.
    """
    thirds = ("first", "second", "third")
    nodes = [
        _node("Reshape", ["pixels_nchw", "rows"], ["pixel_rows"]),
        _node("Split", ["pixel_rows"], thirds, axis=1, num_outputs=3),
    ]
    for third in thirds:
        nodes.append(_node("Cast", [third], [f"{third}_float"], to=TensorProto.FLOAT))
        nodes.append(_resize(f"{third}_float", f"{third}_narrow"))
    return [*nodes, _node("Concat", [f"{third}_narrow" for third in thirds], ["narrow_rows"], axis=1)]


def _resize_height() -> list[onnx.NodeProto]:
    """Return the nodes from `narrow_rows` to `resized`, (batch, 3, size, size), which resize columns as rows."""
    return [
        _node("Shape", ["pixels_nchw"], ["height"], start=2, end=3),
        _node("Concat", ["planes", "height", "size"], ["narrow_shape"], axis=0),
        _node("Reshape", ["narrow_rows", "narrow_shape"], ["narrow"]),  # (batch * 3, 1, height, size)
        _node("Transpose", ["narrow"], ["narrow_turned"], perm=[0, 1, 3, 2]),
        _node("Reshape", ["narrow_turned", "rows"], ["columns"]),
        _resize("columns", "low_columns"),
        _node("Reshape", ["low_columns", "shape"], ["resized_turned"]),
        _node("Transpose", ["resized_turned"], ["resized"], perm=[0, 1, 3, 2]),
    ]


def _resize(rows: str, resized: str) -> onnx.NodeProto:
    """Return the node that resizes (1, rows, 1, any length) to `size` as torch's antialiased bilinear resize does."""
    return _node(
        "Resize",
        [rows, "", "", "size"],
        [resized],
        mode="linear",
        axes=[3],
        antialias=1,
        coordinate_transformation_mode="half_pixel",
        exclude_outside=1,  # without it the borders differ from torch's by up to 17 of 255
    )


def _crop(preprocess: Preprocess) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray[Any, Any]], str]:
    """Return the nodes and constants that cut the box out of `image`, and the name of the tensor that holds the box."""
    if preprocess.crop == "squash":
        return [], {}, "image"
    constants = {
        "two": np.array([2], np.int64),
        "half": np.array(0.5, np.float64),
        "one": np.array([1], np.int64),
        "fraction": np.array(preprocess.center_fraction, np.float64),
        "spatial": np.array([1, 2], np.int64),
    }
    nodes = [
        _node("Shape", ["image"], ["height_width"], start=1, end=3),
        _node("ReduceMin", ["height_width"], ["shorter"], keepdims=1),
        _node("Cast", ["shorter"], ["shorter_float"], to=TensorProto.DOUBLE),
        _node("Mul", ["shorter_float", "fraction"], ["side_float"]),
        _node("Add", ["side_float", "half"], ["side_rounded"]),
        _node("Cast", ["side_rounded"], ["side_or_zero"], to=TensorProto.INT64),
        _node("Max", ["side_or_zero", "one"], ["side"]),
        _node("Sub", ["height_width", "side"], ["margins"]),
        _node("Div", ["margins", "two"], ["starts"]),
        _node("Add", ["starts", "side"], ["ends"]),
        _node("Slice", ["image", "starts", "ends", "spatial"], ["box"]),
    ]
    return nodes, constants, "box"


def join(preprocess: onnx.ModelProto, core: onnx.ModelProto) -> onnx.ModelProto:
    """Join both graphs into one from `image` to `logits`. Its batch is fixed to one where the core's batch is."""
    prefixed = compose.add_prefix(preprocess, "preprocess/", rename_inputs=False, rename_outputs=False)
    joined: onnx.ModelProto = compose.merge_models(prefixed, core, io_map=[("input", "input")])
    joined.graph.name = "model"
    versions = {entry.domain: entry.version for entry in joined.opset_import}
    del joined.opset_import[:]  # both parts have listed their domains
    joined.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in versions.items())
    if batch_of(core) == 1:
        joined.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    return joined


def batch_of(model: onnx.ModelProto) -> int | None:
    """Return the batch that a graph's input is fixed to, or None for any batch."""
    return model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or None


def seal(model: onnx.ModelProto, contract: Contract) -> bytes:
    """Write the contract's metadata into a graph, check the graph fully and serialise it.

    A graph that gives logits also carries `names`, the classes in the form of Ultralytics, which other viewers and
    tools read. The same graph gives the same bytes.
    """
    del model.metadata_props[:]
    metadata = contract.metadata()
    if model.graph.output[0].name == contract.output.name:
        metadata["names"] = str(dict(enumerate(contract.classes)))
    helper.set_model_props(model, metadata)
    model.producer_name, model.producer_version, model.doc_string = "clip2edge", "", ""
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))
