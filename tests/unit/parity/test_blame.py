"""Faults planted in a sound graph: each is blamed on the part and the layer in which it was planted."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import nn

from export.export.quantize import Int8, measure_ranges, to_fp16, to_int8
from export.export.torch_export import Attempt, core_graph
from export.graphs.preprocess_graph import join, preprocess_graph
from export.graphs.runner import Graph
from export.graphs.split_graph import SplitGraph
from export.parity.blame import PARTS, Blame, PartEffect, TrainedNetwork, blame
from export.parity.first_divergence import Layer
from pipeline.network.heads import Head
from pipeline.network.network import Network
from pipeline.network.preprocess import Preprocess

SIZE = 16
GEOMETRY = Preprocess(SIZE, "center", 0.9, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
PICTURES = [
    np.random.default_rng(number).integers(0, 256, (1, 24 + number, 33, 3), dtype=np.uint8) for number in range(3)
]


class Residual(nn.Module):
    """Two branches that meet: one of a convolution, batch norm and activation, the other of a convolution alone."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6())
        self.right = nn.Conv2d(8, 8, 1)

    def forward(self, maps_nchw: torch.Tensor) -> torch.Tensor:
        met: torch.Tensor = self.left(maps_nchw) + self.right(maps_nchw)
        return met


@pytest.fixture(scope="module")
def trained() -> TrainedNetwork:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), Residual(), nn.Conv2d(8, 8, 3, padding=1))
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    head = Head(nn.Sequential(), nn.Sequential(nn.Linear(8, 3)))
    network = Network(body, pool, head, SIZE).eval()
    with torch.no_grad():
        for name, values in network.named_parameters():
            if name.endswith("bias"):
                values.zero_()  # else the logits are little but these
    return TrainedNetwork(GEOMETRY, network)


@pytest.fixture(scope="module")
def core(trained: TrainedNetwork) -> onnx.ModelProto:
    network = trained.network
    assert isinstance(network, Network)
    return core_graph(network, SIZE, Attempt("legacy", 18))


@pytest.fixture(scope="module")
def sound(core: onnx.ModelProto) -> onnx.ModelProto:
    return join(preprocess_graph(GEOMETRY, 18), core)


@pytest.fixture
def graph(sound: onnx.ModelProto) -> onnx.ModelProto:
    """One to break."""
    return copy.deepcopy(sound)


def blamed(graph: onnx.ModelProto, trained: TrainedNetwork) -> Blame:
    split = SplitGraph.of(graph)
    return blame(split, split.core, "fp32", trained, PICTURES)


def blamed_smaller(smaller: onnx.ModelProto, core: onnx.ModelProto, trained: TrainedNetwork, precision: str) -> Blame:
    split = SplitGraph.of(join(preprocess_graph(GEOMETRY, 18), smaller))
    return blame(split, core, precision, trained, PICTURES)


def layer_of(explanation: Blame) -> Layer:
    assert explanation.layer is not None
    return explanation.layer


def effect_of(explanation: Blame, part: str) -> PartEffect:
    assert explanation.parts is not None
    return explanation.parts[part]


def difference_of(explanation: Blame, part: str) -> float:
    difference = effect_of(explanation, part).max_abs_logit_difference
    assert difference is not None
    return difference


def int8_of(core: onnx.ModelProto) -> onnx.ModelProto:
    front = Graph(preprocess_graph(GEOMETRY, 18).SerializeToString())
    inputs_nchw = np.concatenate([front(picture_nhwc) for picture_nhwc in PICTURES])
    return to_int8(core, measure_ranges(core, inputs_nchw, "minmax"), Int8())


def layers(graph: onnx.ModelProto, operator: str) -> list[onnx.NodeProto]:
    return [node for node in graph.graph.node if node.op_type == operator]


def set_constant(graph: onnx.ModelProto, name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    for tensor in graph.graph.initializer:
        if tensor.name == name:
            changed = change(numpy_helper.to_array(tensor).copy())
            tensor.CopyFrom(numpy_helper.from_array(changed, name))
            return
    raise AssertionError(name)


def insert_after(graph: onnx.ModelProto, tensor: str, node: onnx.NodeProto) -> None:
    """Put a node behind a tensor; every node that took the tensor takes the new node's output."""
    for other in graph.graph.node:
        other.input[:] = [node.output[0] if name == tensor else name for name in other.input]
    makers = [place for place, other in enumerate(graph.graph.node) if tensor in other.output]
    graph.graph.node.insert(makers[0] + 1 if makers else 0, node)


def test_a_sound_graph_is_rounding_only_and_no_layer_diverges(sound: onnx.ModelProto, trained: TrainedNetwork) -> None:
    explanation = blamed(sound, trained)
    assert explanation.layer is None
    assert "no " in explanation.sentence
    assert all(difference_of(explanation, part) < 1e-4 and effect_of(explanation, part).flips == 0 for part in PARTS)
    assert explanation.n_frames == 3


@pytest.mark.parametrize("number", range(4))
def test_a_changed_weight_is_the_graphs_and_its_layer_is_named(
    graph: onnx.ModelProto, trained: TrainedNetwork, number: int
) -> None:
    layer = layers(graph, "Conv")[number]
    set_constant(
        graph,
        layer.input[1],
        lambda weights: weights + np.float32(0.05) * (np.arange(weights.size) == 5).reshape(weights.shape),
    )
    explanation = blamed(graph, trained)
    assert explanation.part == "graph"
    assert layer_of(explanation).weights == layer.input[1]
    assert layer_of(explanation).name in explanation.sentence
    assert difference_of(explanation, "pixels") < 1e-4
    assert difference_of(explanation, "precision") == 0


def test_a_broken_attribute_is_the_graphs_and_its_layer_is_named(
    graph: onnx.ModelProto, trained: TrainedNetwork
) -> None:
    layer = next(node for node in layers(graph, "Conv")[1:] if list(_attribute(node, "pads").ints) == [1] * 4)
    _attribute(layer, "pads").ints[:] = [0, 0, 2, 2]  # the same size, one pixel beside
    explanation = blamed(graph, trained)
    assert (explanation.part, layer_of(explanation).name) == ("graph", layer.name)


def test_an_activation_that_does_nothing_is_named_though_its_output_is_a_tensor_of_torch(
    graph: onnx.ModelProto, trained: TrainedNetwork
) -> None:
    layer = layers(graph, "Relu")[0]
    layer.op_type = "Identity"
    explanation = blamed(graph, trained)
    assert (explanation.part, layer_of(explanation).name) == ("graph", layer.name)


def test_swapped_channels_are_the_pixels(graph: onnx.ModelProto, trained: TrainedNetwork) -> None:
    graph.graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0]), "order"))
    insert_after(graph, "preprocess/box", helper.make_node("Gather", ["preprocess/box", "order"], ["bgr"], axis=3))
    explanation = blamed(graph, trained)
    assert (explanation.part, layer_of(explanation).name) == ("pixels", "channel order")


def test_a_wrong_mean_is_the_pixels(graph: onnx.ModelProto, trained: TrainedNetwork) -> None:
    set_constant(graph, "preprocess/bias", lambda bias: bias + np.float32(0.2))
    explanation = blamed(graph, trained)
    assert (explanation.part, layer_of(explanation).name) == ("pixels", "normalisation")


def test_a_crop_one_pixel_beside_is_the_pixels(graph: onnx.ModelProto, trained: TrainedNetwork) -> None:
    starts = next(node for node in layers(graph, "Div") if node.output[0] == "preprocess/starts")
    node = helper.make_node("Add", [starts.output[0], "preprocess/one"], ["preprocess/moved"])
    insert_after(graph, starts.output[0], node)
    explanation = blamed(graph, trained)
    assert (explanation.part, layer_of(explanation).name) == ("pixels", "crop")


def test_another_resize_is_the_pixels(graph: onnx.ModelProto, trained: TrainedNetwork) -> None:
    _attribute(layers(graph, "Resize")[0], "exclude_outside").i = 0
    explanation = blamed(graph, trained)
    assert (explanation.part, layer_of(explanation).name) == ("pixels", "resize")


def test_int8_that_holds_has_no_diverging_layer(core: onnx.ModelProto, trained: TrainedNetwork) -> None:
    explanation = blamed_smaller(int8_of(core), core, trained, "int8")
    assert (explanation.part, explanation.layer) == ("precision", None)


@pytest.mark.parametrize("number", range(3))
def test_int8_that_collapsed_is_the_precisions_and_its_layer_is_named(
    core: onnx.ModelProto, trained: TrainedNetwork, number: int
) -> None:
    layer, collapsed = layers(core, "Conv")[number], int8_of(core)
    set_constant(collapsed, f"{layer.input[1]}_scale", lambda scale: scale * np.float32(0.05))
    explanation = blamed_smaller(collapsed, core, trained, "int8")
    assert (explanation.part, layer_of(explanation).name) == ("precision", layer.name)
    assert difference_of(explanation, "graph") < 1e-4


def test_half_precision_that_overflows_is_the_precisions_and_its_layer_gives_no_number(
    core: onnx.ModelProto, trained: TrainedNetwork
) -> None:
    layer, halved = layers(core, "Conv")[-1], to_fp16(core, [])
    set_constant(halved, layer.input[1], lambda weights: weights + np.float16(6e4))
    explanation = blamed_smaller(halved, core, trained, "fp16")
    assert (explanation.part, layer_of(explanation).name, layer_of(explanation).error) == (
        "precision",
        layer.name,
        None,
    )
    assert "gives no number" in explanation.sentence


def test_flips_are_counted_to_the_part_that_made_them(graph: onnx.ModelProto, trained: TrainedNetwork) -> None:
    gemm = layers(graph, "Gemm")[0]
    set_constant(graph, gemm.input[1], lambda weights: -weights)
    set_constant(graph, gemm.input[2], lambda bias: -bias)
    explanation = blamed(graph, trained)
    assert (explanation.part, layer_of(explanation).name) == ("graph", gemm.name)
    assert effect_of(explanation, "graph").flips == 3
    assert effect_of(explanation, "pixels").flips == 0


def _attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    return next(attribute for attribute in node.attribute if attribute.name == name)
