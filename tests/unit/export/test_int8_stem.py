"""The first convolution by blocks: the same logits to the last bit, and only where blocks save time."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.export import quantize
from export.export.quantize import Int8, measure_ranges, to_int8
from export.graphs.runner import Graph

STEMS: list[dict[str, Any]] = [
    {"kernel": (3, 3), "pads": [1, 1, 1, 1]},  # MobileNetV2, EfficientNet
    {"kernel": (7, 7), "pads": [3, 3, 3, 3]},  # ResNet
    {"kernel": (3, 3), "pads": [0, 0, 1, 1]},  # as TensorFlow pads
    {"kernel": (5, 4), "pads": [0, 0, 0, 0]},
    {"kernel": (7, 3), "pads": [3, 1, 2, 1]},
]
LEFT_ALONE: list[dict[str, Any]] = [
    {"strides": [1, 1]},  # VGG
    {"strides": [2, 1]},
    {"pads": None},  # ONNX lets it be left out; exporters write it
    {"dilations": [2, 2]},
    {"group": 3},
    {"kernel": (2, 2), "pads": [0, 0, 0, 0]},
    {"channels": 8},
]


def core_with(
    kernel: tuple[int, int] = (3, 3), side: int = 24, channels: int = 3, group: int = 1, **attributes: Any
) -> onnx.ModelProto:
    """A stem, pooling and a linear layer of random weights."""
    generator = np.random.default_rng(0)
    weights = {
        "stem": generator.normal(size=(12, channels // group, *kernel)).astype(np.float32),
        "head": generator.normal(size=(12, 4)).astype(np.float32),
    }
    attributes = {"pads": [1, 1, 1, 1], "strides": [2, 2], "group": group, **attributes}
    nodes = [
        helper.make_node("Conv", ["input", "stem"], ["a"], name="stem", **attributes),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("GlobalAveragePool", ["b"], ["c"], name="pool"),
        helper.make_node("Flatten", ["c"], ["d"], name="flatten"),
        helper.make_node("Gemm", ["d", "head"], ["logits"], name="head"),
    ]
    ports = (
        helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", channels, side, side]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4]),
    )
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "core", [ports[0]], [ports[1]], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def inputs_of(core: onnx.ModelProto) -> NDArray[np.float32]:
    shape = [dim.dim_value for dim in core.graph.input[0].type.tensor_type.shape.dim[1:]]
    return np.random.default_rng(1).normal(size=(6, *shape)).astype(np.float32)


def quantised(core: onnx.ModelProto, recipe: Int8 | None = None) -> onnx.ModelProto:
    made = to_int8(core, measure_ranges(core, inputs_of(core), "minmax"), recipe or Int8())
    onnx.checker.check_model(made, full_check=True)
    return made


def has_blocks(core: onnx.ModelProto) -> bool:
    return "SpaceToDepth" in {node.op_type for node in core.graph.node}


@pytest.fixture
def as_written(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Quantise with the stem as it was."""

    def make(core: onnx.ModelProto, recipe: Int8 | None = None) -> onnx.ModelProto:
        with monkeypatch.context() as patch:
            patch.setattr(quantize, "compute_stem_by_blocks", lambda _: None)
            return quantised(core, recipe)

    return make


@pytest.mark.parametrize("recipe", [Int8(), Int8("s8", per_channel=False), Int8(reduce_range=True)])
@pytest.mark.parametrize("side", [24, 25])
@pytest.mark.parametrize("stem", STEMS)
def test_blocks_give_the_same_logits_to_the_last_bit(
    as_written: Any, stem: dict[str, Any], side: int, recipe: Int8
) -> None:
    core = core_with(side=side, **stem)
    found, expected = quantised(core, recipe), as_written(core, recipe)
    assert has_blocks(found)
    assert not has_blocks(expected)
    logits = [Graph(made.SerializeToString())(inputs_of(core)) for made in (found, expected)]
    np.testing.assert_array_equal(*logits)


def test_a_picture_moved_by_one_pixel_would_be_noticed(as_written: Any) -> None:
    core = core_with()
    moved = quantised(core)
    pads = next(tensor for tensor in moved.graph.initializer if tensor.name == "stem_pads")
    top_to_bottom = numpy_helper.to_array(pads) + np.array([0, 0, -1, 0, 0, 0, 1, 0])
    pads.CopyFrom(numpy_helper.from_array(top_to_bottom, pads.name))
    logits = [Graph(made.SerializeToString())(inputs_of(core)) for made in (moved, as_written(core))]
    assert not np.array_equal(*logits)


@pytest.mark.parametrize("stem", LEFT_ALONE)
def test_another_convolution_is_left_as_it_is(as_written: Any, stem: dict[str, Any]) -> None:
    core = core_with(**stem)
    assert quantised(core) == as_written(core)


def test_a_stem_that_stays_float_since_it_is_the_last_layer_is_left_as_it_is() -> None:
    core = core_with()
    del core.graph.node[-1]
    core.graph.node[-1].output[0] = "logits"
    core.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 12
    assert not has_blocks(quantised(core))


def test_a_picture_that_two_convolutions_take_is_left_as_it_is() -> None:
    core = core_with()
    core.graph.initializer.append(
        numpy_helper.from_array(2 * numpy_helper.to_array(core.graph.initializer[0]), "beside")
    )
    beside = helper.make_node("Conv", ["input", "beside"], ["e"], name="beside", pads=[1, 1, 1, 1], strides=[2, 2])
    core.graph.node.insert(0, beside)
    joined = next(node for node in core.graph.node if node.op_type == "Relu")
    joined.op_type = "Add"
    joined.input.append("e")
    assert not has_blocks(quantised(core))


def test_weights_that_another_convolution_takes_too_are_left_as_they_are() -> None:
    core = core_with()
    stem, head = core.graph.initializer
    stem.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(stem)[:3], stem.name))
    head.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(head)[:3], head.name))
    again = helper.make_node("Conv", ["b", "stem"], ["e"], name="again", pads=[1, 1, 1, 1], strides=[2, 2])
    core.graph.node.insert(2, again)
    core.graph.node[3].input[0] = "e"
    assert not has_blocks(quantised(core))
