"""Graphs in onnxruntime: int8 products that do not fit into 16 bits are summed exactly on every processor.

And a graph gives the same logits for pictures a few at a time as for all at once.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.graphs import runner
from export.graphs.runner import Graph
from runtime import session
from tests.support.tiny_core import INPUTS_NCHW, N_CLASSES, small_core

N_INPUTS = 64
# Every pair of products is 2 x 255 x 127 = 64,770: above 32,767, where an x86 processor without VNNI stops counting.
ACTIVATIONS = np.full((1, N_INPUTS), 255, np.uint8)
WEIGHTS = np.full((N_INPUTS, 4), 127, np.int8)
WEIGHTS[:, 1] = -128
WEIGHTS[::2, 2] = 5
WEIGHTS[:, 3] = 1
EXACT = ACTIVATIONS.astype(np.int64) @ WEIGHTS.astype(np.int64)
OUTPUT_SCALE = 20_000.0  # of one of 256 output steps: fine enough to show an overflow


def overflowing_graph() -> onnx.ModelProto:
    """A quantised matrix product: `input` float32 (1, 64), whole numbers 0 to 255, to `logits` float32 (1, 4)."""
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "one", "zero_u8"], ["input_u8"]),
        helper.make_node("DequantizeLinear", ["input_u8", "one", "zero_u8"], ["activations"]),
        helper.make_node("DequantizeLinear", ["weights_s8", "one", "zero_s8"], ["weights"]),
        helper.make_node("MatMul", ["activations", "weights"], ["products"]),
        helper.make_node("QuantizeLinear", ["products", "scale", "middle"], ["logits_u8"]),
        helper.make_node("DequantizeLinear", ["logits_u8", "scale", "middle"], ["logits"]),
    ]
    values = {
        "one": np.float32(1),
        "zero_u8": np.uint8(0),
        "zero_s8": np.int8(0),
        "middle": np.uint8(128),
        "scale": np.float32(OUTPUT_SCALE),
        "weights_s8": WEIGHTS,
    }
    graph = helper.make_graph(
        nodes,
        "overflowing",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, N_INPUTS])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def saturated() -> NDArray[np.int64]:
    """The same product as such a processor computes it: each pair of products is clipped to 16 bits."""
    products = ACTIVATIONS.astype(np.int64).T * WEIGHTS.astype(np.int64)
    pairs = products[0::2] + products[1::2]
    return pairs.clip(-(2**15), 2**15 - 1).sum(axis=0, keepdims=True)


def is_exact(logits: NDArray[np.floating] | NDArray[np.int64]) -> bool:
    return bool(np.abs(logits - EXACT).max() <= OUTPUT_SCALE / 2)


@pytest.mark.parametrize("how", ["usual", "as_written", "without_vnni"])
def test_int8_products_that_overflow_16_bits_are_computed_exactly(how: runner.How) -> None:
    graph = Graph(overflowing_graph().SerializeToString(), how)
    assert is_exact(graph(ACTIVATIONS.astype(np.float32)))


def test_an_overflow_would_be_seen() -> None:
    assert not is_exact(saturated())  # the negative control


@pytest.mark.skipif(not session._int8_may_overflow(), reason="this processor's int8 kernels do not overflow")
def test_without_the_exact_kernels_this_processor_overflows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_int8_may_overflow", lambda: False)
    graph = Graph(overflowing_graph().SerializeToString())
    assert not is_exact(graph(ACTIVATIONS.astype(np.float32)))


@pytest.mark.parametrize("may_overflow", [True, False])
def test_a_graph_is_opened_with_the_kernels_of_the_device(may_overflow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_int8_may_overflow", lambda: may_overflow)
    options = Graph(overflowing_graph().SerializeToString())._session.get_session_options()
    if may_overflow:
        assert options.get_session_config_entry(session.EXACT_INT8) == "1"
    else:
        with pytest.raises(session.failures()):
            options.get_session_config_entry(session.EXACT_INT8)


@pytest.mark.parametrize("how", ["usual", "as_written", "without_vnni"])
def test_a_graph_runs_in_parts_as_it_runs_at_once(how: runner.How) -> None:
    graph = Graph(small_core().SerializeToString(), how)
    assert graph.run_in_batches(INPUTS_NCHW).shape == (20, N_CLASSES)
    assert np.allclose(graph.run_in_batches(INPUTS_NCHW), graph(INPUTS_NCHW), atol=1e-5)
