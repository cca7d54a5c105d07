"""Sums that are rounded to half precision after every product, compared with the same sums in plain Python loops."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.export import half_arithmetic
from export.export.half_arithmetic import logits_in_half
from export.export.quantize import to_fp16
from export.graphs.runner import Graph
from tests.support.tiny_core import INPUTS_NCHW, small_core

GENERATOR = np.random.default_rng(3)
BIAS = GENERATOR.normal(size=6).astype(np.float16)


def one_layer(operator: str, weights: NDArray[np.float16], n_axes: int, **attributes: Any) -> onnx.ModelProto:
    """A core of one half-precision layer with a bias, between casts."""
    inputs = ["half", "weights"] if operator == "MatMul" else ["half", "weights", "bias"]
    nodes = [
        helper.make_node("Cast", ["input"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node(operator, inputs, ["sums"], **attributes),
        helper.make_node("Cast", ["sums"], ["logits"], to=TensorProto.FLOAT),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * n_axes) for name in ("input", "logits")]
    constants = [numpy_helper.from_array(value, name) for name, value in (("weights", weights), ("bias", BIAS))]
    graph = helper.make_graph(nodes, "layer", ports[:1], ports[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def half_sum(left: NDArray[Any], right: NDArray[Any]) -> np.float16:
    """The sum of products in order, each added exactly and then rounded to half precision."""
    total = np.float16(0)
    for a, b in zip(left.ravel(), right.ravel(), strict=True):
        total = np.float16(float(total) + float(a) * float(b))
    return total


def half_conv(
    values: NDArray[np.float16], weights: NDArray[np.float16], *, stride: int, pad: int, dilation: int, group: int
) -> NDArray[np.float16]:
    padded = np.pad(values, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    n_out, n_in, reach, _ = weights.shape
    size = (padded.shape[2] - dilation * (reach - 1) - 1) // stride + 1
    sums = np.zeros((len(values), n_out, size, size), np.float16)
    for picture, out, row, column in itertools.product(range(len(values)), range(n_out), range(size), range(size)):
        first = out // (n_out // group) * n_in
        top, left, span = row * stride, column * stride, dilation * (reach - 1) + 1
        seen = padded[picture, first : first + n_in, top : top + span : dilation, left : left + span : dilation]
        sums[picture, out, row, column] = half_sum(seen, weights[out])
    return sums + BIAS[:, None, None]


@pytest.mark.parametrize(
    ("stride", "pad", "dilation", "group"), [(1, 0, 1, 1), (2, 1, 1, 1), (1, 2, 2, 2), (1, 1, 1, 6)]
)
def test_a_convolution_rounds_after_every_product(stride: int, pad: int, dilation: int, group: int) -> None:
    values = GENERATOR.normal(size=(1, 6, 7, 7)).astype(np.float16)
    weights = GENERATOR.normal(size=(6, 6 // group, 3, 3)).astype(np.float16)
    core = one_layer("Conv", weights, 4, strides=[stride] * 2, pads=[pad] * 4, dilations=[dilation] * 2, group=group)
    expected = half_conv(values, weights, stride=stride, pad=pad, dilation=dilation, group=group)
    assert np.array_equal(logits_in_half(core, values.astype(np.float32)), expected)


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_linear_layer_rounds_after_every_product(transposed: int) -> None:
    values, weights = (GENERATOR.normal(size=size).astype(np.float16) for size in ((1, 40), (40, 6)))
    core = one_layer("Gemm", weights.T if transposed else weights, 2, transB=transposed)
    expected = np.array([[half_sum(values[0], weights[:, column]) for column in range(6)]]) + BIAS
    assert np.array_equal(logits_in_half(core, values.astype(np.float32)), expected)


def test_a_matrix_product_rounds_after_every_product() -> None:
    values, weights = (GENERATOR.normal(size=size).astype(np.float16) for size in ((1, 2, 3, 40), (2, 40, 5)))
    expected = np.array(
        [[[half_sum(values[0, i, j], weights[i, :, k]) for k in range(5)] for j in range(3)] for i in range(2)]
    )
    found = logits_in_half(one_layer("MatMul", weights, 4), values.astype(np.float32))
    assert np.array_equal(found[0], expected)


def test_sums_in_float32_would_show_nothing() -> None:
    values, weights = (GENERATOR.normal(size=size).astype(np.float16) for size in ((1, 2000), (2000, 6)))
    exact = values.astype(np.float64) @ weights.astype(np.float64) + BIAS
    core, input_values = one_layer("Gemm", weights, 2), values.astype(np.float32)
    usual = np.abs(Graph(core.SerializeToString())(input_values) - exact).max()
    assert np.abs(logits_in_half(core, input_values) - exact).max() > 5 * usual


def test_layers_in_float_are_computed_as_onnxruntime_does() -> None:
    core = small_core()
    expected = Graph(core.SerializeToString())(INPUTS_NCHW)
    assert np.allclose(logits_in_half(core, INPUTS_NCHW), expected, rtol=1e-5, atol=1e-5)


def test_a_branch_reads_what_was_computed_before_it() -> None:
    ports = [helper.make_tensor_value_info("branch", TensorProto.FLOAT, [None, None])]
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(operator, ["logits_before"], ["branch"])], name, [], ports
        )
        for name, operator in (("then", "Neg"), ("else", "Abs"))
    }
    core = one_layer("Gemm", GENERATOR.normal(size=(4, 6)).astype(np.float16), 2)
    core.graph.node[2].output[0] = "logits_before"
    core.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    core.graph.node.append(helper.make_node("If", ["yes"], ["logits"], **branches))
    values = np.ones((1, 4), np.float32)
    assert np.allclose(logits_in_half(core, values), Graph(core.SerializeToString())(values), atol=0.01)


def test_the_pictures_are_as_many_as_the_products_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    half = to_fp16(small_core(), [])
    of_one_picture = 8 * 6 * 6 * 27 + 8 * 6 * 6 * 8 + 4 * 8
    monkeypatch.setattr(half_arithmetic, "MOST_PRODUCTS", 3 * of_one_picture)
    assert len(logits_in_half(half, INPUTS_NCHW)) == 3
    monkeypatch.setattr(half_arithmetic, "MOST_PRODUCTS", 1)
    assert len(logits_in_half(half, INPUTS_NCHW)) == 1
