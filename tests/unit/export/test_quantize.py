"""Cores in int8 and half precision, on a small network with random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, shape_inference

from export.export import quantize
from export.export.quantize import (
    Int8,
    Quantizer,
    last_layers,
    layers_beyond_fp16,
    layers_in_float,
    measure_ranges,
    to_fp16,
    to_int8,
)
from export.graphs.fold_heads import FoldHeads, GraphOfFolds
from export.graphs.runner import Graph
from pipeline.base.errors import DataError
from pipeline.network.out_of_fold import FoldHead
from tests.support.checkpoints import NOT_FITTED
from tests.support.tiny_core import INPUTS_NCHW, change, small_core


def error(core: onnx.ModelProto, recipe: Int8) -> float:
    """Root mean square difference of the int8 logits, as a share of their spread."""
    expected = Graph(core.SerializeToString()).run_in_batches(INPUTS_NCHW)
    ranges = measure_ranges(core, INPUTS_NCHW, recipe.calibration)
    quantised = to_int8(core, ranges, recipe)
    onnx.checker.check_model(quantised, full_check=True)
    found = Graph(quantised.SerializeToString()).run_in_batches(INPUTS_NCHW)
    return float(np.sqrt(np.square(found - expected).mean()) / expected.std())


@pytest.mark.parametrize("activations", ["u8", "s8"])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("calibration", ["minmax", "percentile"])
def test_every_recipe_stays_near_on_an_even_network(activations: str, per_channel: bool, calibration: str) -> None:
    recipe = Int8(activations, per_channel, calibration=calibration)  # type: ignore[arg-type]
    assert error(small_core(), recipe) < 0.1


def test_seven_bits_are_used_and_stay_near() -> None:
    core = small_core()
    largest = {}
    for is_reduced in (False, True):
        made = to_int8(core, measure_ranges(core, INPUTS_NCHW, "minmax"), Int8(reduce_range=is_reduced))
        weights = next(tensor for tensor in made.graph.initializer if tensor.name == "first_quantized")
        largest[is_reduced] = int(np.abs(numpy_helper.to_array(weights).astype(int)).max())
    assert largest == {False: 127, True: 64}
    assert error(core, Int8(reduce_range=True)) < 0.1


def test_one_scale_for_all_channels_ruins_an_uneven_network_and_a_scale_each_does_not() -> None:
    core = small_core()
    change(core, "first", (slice(0, 1),), 0)
    change(core, "second", (0, 0), 1e3)
    assert error(core, Int8(per_channel=True)) < 0.1
    assert error(core, Int8(per_channel=False)) > 0.5


def test_ranges_are_those_of_all_frames_not_of_the_first() -> None:
    core = small_core()
    ranges = measure_ranges(core, INPUTS_NCHW, "minmax")
    assert np.max(ranges["input"].range_value[1]) == pytest.approx(float(INPUTS_NCHW.max()))
    assert np.min(ranges["input"].range_value[0]) == pytest.approx(float(INPUTS_NCHW.min()))


def test_the_same_frames_give_the_same_bytes() -> None:
    core = small_core()
    made = [
        to_int8(core, measure_ranges(core, INPUTS_NCHW, "minmax"), Int8()).SerializeToString(deterministic=True)
        for _ in range(2)
    ]
    assert made[0] == made[1]


def test_the_last_layer_stays_float_and_no_other() -> None:
    core = small_core()
    quantised = to_int8(core, measure_ranges(core, INPUTS_NCHW, "minmax"), Int8())
    names = {tensor.name for tensor in quantised.graph.initializer}
    assert {"first_quantized", "second_quantized", "head"} <= names
    assert not {"first", "second", "head_quantized"} & names
    assert layers_in_float(core) == ["head"]
    *_, last = quantised.graph.node
    assert (last.name, last.output[0]) == ("head", "logits")


def core_with_a_hidden_layer() -> onnx.ModelProto:
    """A small core whose head has a hidden layer."""
    core, generator = small_core(), np.random.default_rng(3)
    hidden = numpy_helper.from_array(generator.normal(size=(8, 8)).astype(np.float32), "head.hidden")
    core.graph.initializer.append(hidden)
    core.graph.node[-1].input[0] = "g"
    core.graph.node.insert(5, helper.make_node("Gemm", ["e", "head.hidden"], ["f"], name="hidden"))
    core.graph.node.insert(6, helper.make_node("Relu", ["f"], ["g"], name="hidden_relu"))
    return core


def test_all_layers_of_a_named_head_stay_float_so_that_folds_can_take_their_place() -> None:
    core = core_with_a_hidden_layer()
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in core.graph.initializer}
    shipped = {name: torch.from_numpy(weights[name].copy()) for name in ("head.hidden", "head")}
    in_folds = {name.removeprefix("head."): values * 2 for name, values in shipped.items()}
    folds = FoldHeads(shipped, [FoldHead(in_folds, NOT_FITTED)])
    ranges = measure_ranges(core, INPUTS_NCHW, "minmax")
    judged, whole = to_int8(core, ranges, Int8(), shipped), to_int8(core, ranges, Int8())
    assert layers_in_float(core, shipped) == ["hidden", "head"]
    assert {"first_quantized", "second_quantized"} <= {tensor.name for tensor in judged.graph.initializer}
    expected = 4 * Graph(judged.SerializeToString()).run_in_batches(INPUTS_NCHW)
    np.testing.assert_allclose(GraphOfFolds(judged, folds).answers(0, INPUTS_NCHW).logits, expected, rtol=0.05, atol=1)
    with pytest.raises(DataError, match=r"does not hold head\.hidden in floating point"):
        GraphOfFolds(whole, folds)


def test_nothing_behind_the_layer_of_the_classes_is_rounded() -> None:
    core = small_core(n_classes=1)  # one unit for two classes, as `output: sigmoid` has it
    core.graph.node[-1].output[0] = "unit"
    zeros = numpy_helper.from_array(np.zeros(1, np.float32), "zero")
    core.graph.initializer.append(zeros)
    core.graph.node.append(helper.make_node("Mul", ["unit", "zero"], ["nothing"], name="nothing"))
    core.graph.node.append(helper.make_node("Concat", ["nothing", "unit"], ["logits"], name="both", axis=1))
    core.graph.output[0].type.tensor_type.ClearField("shape")
    assert layers_in_float(core) == ["head", "nothing", "both"]
    quantised = to_int8(core, measure_ranges(core, INPUTS_NCHW, "minmax"), Int8())
    made_by = {output: node for node in quantised.graph.node for output in node.output}
    assert made_by["logits"].op_type == "Concat"
    assert [made_by[name].op_type for name in made_by["logits"].input] == ["Mul", "Gemm"]


def test_what_recipes_share_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def noted(core: onnx.ModelProto, inputs_nchw: NDArray[np.float32], calibration: Any) -> Any:
        measured.append(calibration)
        return measure_ranges(core, inputs_nchw, calibration)

    monkeypatch.setattr(quantize, "measure_ranges", noted)
    quantizer = Quantizer(small_core(), INPUTS_NCHW)
    for recipe in (Int8(), Int8(corrected=False), Int8("s8"), Int8(calibration="percentile"), Int8()):
        quantizer.to_int8(recipe)
    assert measured == ["minmax", "percentile"]


def test_half_precision_halves_the_bytes_and_keeps_its_ports() -> None:
    core = small_core()
    halved = to_fp16(core, [])
    onnx.checker.check_model(halved, full_check=True)
    assert {tensor.data_type for tensor in halved.graph.initializer} == {TensorProto.FLOAT16}
    assert halved.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    expected = Graph(core.SerializeToString()).run_in_batches(INPUTS_NCHW)
    assert np.allclose(Graph(halved.SerializeToString()).run_in_batches(INPUTS_NCHW), expected, atol=0.01)


def test_no_stated_type_of_the_float_core_is_left_beside_half_precision() -> None:
    core = shape_inference.infer_shapes(small_core())
    assert len(core.graph.value_info) > 0
    halved = to_fp16(core, last_layers(core))
    assert len(halved.graph.value_info) == 0  # onnx's checker refuses a type that is out of date
    onnx.checker.check_model(halved, full_check=True)


def test_what_half_precision_cannot_hold_stays_float() -> None:
    core = small_core(3e5)
    expected = Graph(core.SerializeToString()).run_in_batches(INPUTS_NCHW)
    beyond = layers_beyond_fp16(core, measure_ranges(core, INPUTS_NCHW, "minmax"))
    assert {"first", "relu", "second"} <= set(beyond)
    assert "head" not in beyond
    found = Graph(to_fp16(core, beyond).SerializeToString()).run_in_batches(INPUTS_NCHW)
    assert np.allclose(found, expected, atol=0.02)
    without = Graph(to_fp16(core, []).SerializeToString()).run_in_batches(INPUTS_NCHW)  # the negative control
    assert not np.allclose(without, expected, atol=0.02)


def test_the_last_layers_begin_with_the_pooling() -> None:
    assert last_layers(small_core()) == ["pool", "flatten", "head"]
