"""Mean errors of an int8 core's channels, and their removal, on a small network whose weights round badly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.export import bias_correction
from export.export.bias_correction import correct_biases, frame_means, with_biases
from export.export.quantize import Int8, Quantizer, measure_ranges, to_int8
from export.graphs.runner import Graph
from tests.support.tiny_core import INPUTS_NCHW, change, small_core

PLAIN, CORRECTED = Int8(corrected=False), Int8()


@pytest.fixture
def core() -> onnx.ModelProto:
    """A core whose first layer has positive inputs and one large weight a channel: all others round alike."""
    core = small_core()
    change(core, "first", (slice(None), slice(1, None)), 0.45)
    change(core, "first", (slice(None), 0, 0, 0), 127.0)  # so that 0.45 rounds to nothing
    change(core, "second", (slice(None), slice(4)), 0.3)
    return core


@pytest.fixture
def inputs_nchw() -> NDArray[np.float32]:
    """Twenty frames that differ little, as frames of one place do."""
    return (1 + 0.1 * INPUTS_NCHW).astype(np.float32)


def distance(core: onnx.ModelProto, made: onnx.ModelProto, inputs_nchw: NDArray[np.float32]) -> float:
    expected, found = (Graph(each.SerializeToString()).run_in_batches(inputs_nchw) for each in (core, made))
    return float(np.square(found - expected).mean() / expected.var())


def test_the_shift_of_every_layer_is_taken_out(core: onnx.ModelProto, inputs_nchw: NDArray[np.float32]) -> None:
    quantizer = Quantizer(core, inputs_nchw)
    plain, corrected = (quantizer.to_int8(recipe) for recipe in (PLAIN, CORRECTED))
    onnx.checker.check_model(corrected, full_check=True)
    assert distance(core, corrected, inputs_nchw) < 0.1 * distance(core, plain, inputs_nchw)
    expected = frame_means(with_biases(core), inputs_nchw)
    for made, is_close in ((corrected, True), (plain, False)):
        means = frame_means(made, inputs_nchw)
        shifts = [np.abs((means[name] - expected[name]).mean(axis=0)).max() for name in ("first", "second")]
        assert (max(shifts) < 0.02) == is_close, shifts


def test_frames_that_were_not_measured_gain_as_well(core: onnx.ModelProto, inputs_nchw: NDArray[np.float32]) -> None:
    quantizer = Quantizer(core, inputs_nchw[:10])
    plain, corrected = (distance(core, quantizer.to_int8(recipe), inputs_nchw[10:]) for recipe in (PLAIN, CORRECTED))
    assert corrected < 0.1 * plain


def test_a_correction_in_the_wrong_direction_would_be_noticed(
    core: onnx.ModelProto, inputs_nchw: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    shift = bias_correction._shift
    monkeypatch.setattr(bias_correction, "_shift", lambda differences: -shift(differences))
    quantizer = Quantizer(core, inputs_nchw)
    plain, wrong = (distance(core, quantizer.to_int8(recipe), inputs_nchw) for recipe in (PLAIN, CORRECTED))
    assert wrong > plain


def test_only_integer_biases_change_and_the_plain_core_stays(
    core: onnx.ModelProto, inputs_nchw: NDArray[np.float32]
) -> None:
    quantizer = Quantizer(core, inputs_nchw)
    plain = quantizer.to_int8(PLAIN)
    before = plain.SerializeToString(deterministic=True)
    corrected = quantizer.to_int8(CORRECTED)
    assert quantizer.to_int8(PLAIN).SerializeToString(deterministic=True) == before
    tensors = zip(plain.graph.initializer, corrected.graph.initializer, strict=True)
    changed = {left.name for left, right in tensors if left != right}
    assert changed == {"first_bias_quantized", "second_bias_quantized"}
    assert list(plain.graph.node) == list(corrected.graph.node)


def test_the_same_frames_give_the_same_bytes(core: onnx.ModelProto, inputs_nchw: NDArray[np.float32]) -> None:
    made = [Quantizer(core, inputs_nchw).to_int8(CORRECTED).SerializeToString(deterministic=True) for _ in range(2)]
    assert made[0] == made[1]


def test_a_core_with_a_batch_of_one_is_corrected_alike(core: onnx.ModelProto, inputs_nchw: NDArray[np.float32]) -> None:
    fixed = onnx.ModelProto()
    fixed.CopyFrom(core)
    for port in (*fixed.graph.input, *fixed.graph.output):
        port.type.tensor_type.shape.dim[0].dim_value = 1
    left, right = (frame_means(with_biases(each), inputs_nchw) for each in (core, fixed))
    assert {name: means.shape for name, means in left.items()} == {"first": (20, 8), "second": (20, 8), "head": (20, 4)}
    for name, means in left.items():
        np.testing.assert_allclose(means, right[name], rtol=1e-4, atol=1e-4)


def test_a_shift_that_chance_explains_is_left_and_one_that_all_frames_share_is_not() -> None:
    noise = np.random.default_rng(0).normal(size=(32, 2000))
    assert np.square(bias_correction._shift(noise)).mean() < 0.4 * np.square(noise.mean(axis=0)).mean()
    np.testing.assert_allclose(bias_correction._shift(noise + 100), (noise + 100).mean(axis=0), rtol=1e-4)
    np.testing.assert_array_equal(bias_correction._shift(noise[:1]), noise[0])
    np.testing.assert_array_equal(bias_correction._shift(np.zeros((4, 2))), [0, 0])


@dataclass(frozen=True)
class Biasless:
    """A layer without a bias, and how many channels it writes."""

    operator: str
    weights: tuple[int, ...]
    n_channels: int
    attributes: tuple[tuple[str, Any], ...] = ()


@pytest.mark.parametrize(
    "layer",
    [
        Biasless("Conv", (6, 3, 1, 1), 6),
        Biasless("ConvTranspose", (4, 3, 1, 1), 6, (("group", 2),)),
        Biasless("Gemm", (4, 6), 6),
        Biasless("Gemm", (6, 4), 6, (("transB", 1),)),
    ],
)
def test_a_layer_without_a_bias_gets_zeros_and_gives_what_it_gave(layer: Biasless) -> None:
    n_axes = len(layer.weights)
    n_inputs = 3 if layer.operator == "Conv" else 4
    node = helper.make_node(layer.operator, ["input", "w"], ["logits"], name="layer", **dict(layer.attributes))
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * n_axes) for name in ("input", "logits")]
    weights = np.random.default_rng(0).normal(size=layer.weights).astype(np.float32)
    graph = helper.make_graph([node], "g", ports[:1], ports[1:], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    complete = with_biases(model)
    assert len(model.graph.node[0].input) == 2
    assert [tensor.dims[0] for tensor in complete.graph.initializer if tensor.name == "layer_bias"] == [
        layer.n_channels
    ]
    values = np.random.default_rng(1).normal(size=(2, n_inputs, *[3] * (n_axes - 2))).astype(np.float32)
    logits = [Graph(each.SerializeToString())(values) for each in (model, complete)]
    np.testing.assert_array_equal(*logits)
    assert with_biases(complete) == complete


def test_layers_with_a_float_bias_or_an_unknown_name_stay(
    core: onnx.ModelProto, inputs_nchw: NDArray[np.float32]
) -> None:
    complete = with_biases(core)
    quantised = to_int8(complete, measure_ranges(complete, inputs_nchw, "minmax"), PLAIN)
    before = quantised.SerializeToString(deterministic=True)
    expected = frame_means(complete, inputs_nchw)
    correct_biases(quantised, inputs_nchw, {name: means for name, means in expected.items() if name == "head"})
    assert quantised.SerializeToString(deterministic=True) == before
    correct_biases(quantised, inputs_nchw, expected)
    assert quantised.SerializeToString(deterministic=True) != before


def test_no_more_frames_are_held_than_the_limit(
    core: onnx.ModelProto, inputs_nchw: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bias_correction, "MOST_FRAMES", 3)
    assert {len(means) for means in frame_means(with_biases(core), inputs_nchw).values()} == {3}
    run: Callable[..., Any] = bias_correction._run_by_layer
    seen: list[int] = []

    def counted(graph: onnx.ModelProto, frames: NDArray[np.float32]) -> Any:
        seen.append(len(frames))
        return run(graph, frames)

    monkeypatch.setattr(bias_correction, "_run_by_layer", counted)
    Quantizer(core, inputs_nchw).to_int8(replace(CORRECTED, calibration="percentile"))
    assert seen == [3, 3]
