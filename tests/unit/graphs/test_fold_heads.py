"""A graph with the head of a fold: the right weights in the right place, in every precision, or a clear no."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from export.graphs.fold_heads import FoldHeads, GraphOfFolds, ask_by_fold, positions_by_fold
from pipeline.base.errors import DataError
from pipeline.base.manifest import Row
from pipeline.network.out_of_fold import FoldHead
from tests.support.checkpoints import NOT_FITTED

GENERATOR = np.random.default_rng(0)
SHIPPED, *OF_FOLDS = (
    (GENERATOR.normal(size=(2, 3)).astype(np.float32), GENERATOR.normal(size=2).astype(np.float32)) for _ in range(3)
)
POOLED = GENERATOR.normal(size=(6, 3)).astype(np.float32)
ROWS = [Row(f"{number}.jpg", "a", f"{number}", "", f"{number}", fold=number % 2) for number in range(6)]


def heads() -> FoldHeads:
    weight, bias = SHIPPED
    shipped = {"head.classify.0.weight": torch.from_numpy(weight), "head.classify.0.bias": torch.from_numpy(bias)}
    of_folds = [
        FoldHead({"classify.0.weight": torch.from_numpy(w), "classify.0.bias": torch.from_numpy(b)}, NOT_FITTED)
        for w, b in OF_FOLDS
    ]
    return FoldHeads(shipped, of_folds)


def graph(dtype: Any = np.float32, *, transposed: bool = False, **changed: Any) -> onnx.ModelProto:
    """The layer of the classes alone: pooled features (batch, 3) to logits (batch, 2)."""
    weight, bias = (values.astype(dtype) for values in SHIPPED)
    tensors = {"head.classify.0.weight": weight.T if transposed else weight, "head.classify.0.bias": bias, **changed}
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node("Cast", ["input"], ["pooled"], to=kind),
        helper.make_node(
            "Gemm", ["pooled", "head.classify.0.weight", "head.classify.0.bias"], ["y"], transB=int(not transposed)
        ),
        helper.make_node("Cast", ["y"], ["logits"], to=TensorProto.FLOAT),
    ]
    made = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.ascontiguousarray(values), name) for name, values in tensors.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float16, 5e-3)])
def test_each_frame_is_answered_by_the_head_of_its_fold(dtype: Any, tolerance: float, transposed: bool) -> None:
    found = ask_by_fold(graph(dtype, transposed=transposed), ROWS, heads(), POOLED).logits
    for fold, positions in positions_by_fold(ROWS):
        weight, bias = OF_FOLDS[fold]
        np.testing.assert_allclose(found[positions], POOLED[positions] @ weight.T + bias, atol=tolerance)
    of_shipped = POOLED @ SHIPPED[0].T + SHIPPED[1]  # the negative control
    assert np.abs(found - of_shipped).min() > 10 * tolerance


def test_the_graph_that_ships_stays_as_it_is() -> None:
    shipped = graph()
    before = shipped.SerializeToString()
    GraphOfFolds(shipped, heads()).answers(0, POOLED)
    assert shipped.SerializeToString() == before


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("head.classify.0.weight", np.zeros((2, 3), np.int8)),  # a layer in integers
        ("head.classify.0.weight", SHIPPED[0] + 1),  # another network's head
        ("head.classify.0.bias", SHIPPED[1][::-1]),
        ("head.classify.0.bias", np.zeros(3, np.float32)),
    ],
)
def test_a_graph_that_does_not_hold_the_shipped_head_is_refused(name: str, values: np.ndarray) -> None:
    with pytest.raises(DataError, match=f"does not hold {name} in floating point, so no fold can judge it"):
        GraphOfFolds(graph(**{name: values}), heads())


def test_a_weight_too_small_for_float16_is_found_as_onnxruntime_converts_it() -> None:
    weight = SHIPPED[0].copy()
    weight[0, 0] = 1e-8
    halved = convert_float_to_float16(graph(**{"head.classify.0.weight": weight}), keep_io_types=True)
    shipped = {**heads().shipped, "head.classify.0.weight": torch.from_numpy(weight)}
    found = ask_by_fold(halved, ROWS, FoldHeads(shipped, heads().heads), POOLED).logits
    np.testing.assert_allclose(found, ask_by_fold(graph(), ROWS, heads(), POOLED).logits, atol=5e-3)


def test_a_graph_without_the_names_of_the_head_is_refused() -> None:
    model = graph()
    del model.graph.initializer[0]
    with pytest.raises(DataError, match=r"does not hold head\.classify\.0\.weight"):
        GraphOfFolds(model, heads())


def test_no_heads_are_no_folds() -> None:
    with pytest.raises(ValueError, match="no fold has a head"):
        FoldHeads(heads().shipped, [])
