"""A bundle whose int8 graph overflows on x86 processors without VNNI, unless onnxruntime uses its exact kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.bundle.stage import bundle
from runtime.archive import unpack
from tests.support.tiny_bundle import draft_contract, write_project

_COPIES = 22  # of the three means, so that the kernels for long rows run


def overflowing_graph(metadata: dict[str, str]) -> bytes:
    """`image` to `logits`: an int8 matrix product of each channel's mean.

    Of the dominant channel and its neighbour, 255 x 127 + 80 x 50 is above 32,767. There such a processor stops
    counting.
    """
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("Tile", ["means", "copies"], ["row"]),
        helper.make_node("QuantizeLinear", ["row", "step", "zero_u8"], ["row_u8"]),
        helper.make_node("DequantizeLinear", ["row_u8", "step", "zero_u8"], ["activations"]),
        helper.make_node("DequantizeLinear", ["weights_s8", "weight_step", "zero_s8"], ["weights"]),
        helper.make_node("MatMul", ["activations", "weights"], ["products"]),
        helper.make_node("QuantizeLinear", ["products", "logit_step", "zero_u8"], ["logits_u8"]),
        helper.make_node("DequantizeLinear", ["logits_u8", "logit_step", "zero_u8"], ["logits"]),
    ]
    weights = np.full((3, 3), 80, np.int8) + np.eye(3, dtype=np.int8) * np.int8(47)
    values = {
        "axes": np.array([1, 2], np.int64),
        "copies": np.array([1, _COPIES], np.int64),
        "step": np.float32(0.59),  # the dominant channel's mean is about 150: 255 steps
        "zero_u8": np.uint8(0),
        "zero_s8": np.int8(0),
        "weight_step": np.float32(1e-4),
        "logit_step": np.float32(0.25),
        "weights_s8": np.tile(weights, (_COPIES, 1)),
    }
    graph = helper.make_graph(
        nodes,
        "overflowing",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", "height", "width", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.helper.set_model_props(model, metadata)
    content: bytes = model.SerializeToString()
    return content


def overflowing_bundle(folder: Path) -> Path:
    """Make the bundle with the exact golden logits, and unpack it."""
    project = write_project(folder / "project", draft_contract("fp32"), overflowing_graph)
    bundle(project)
    unpack(project.bundle_zip, folder / "overflowing")
    return folder / "overflowing"
