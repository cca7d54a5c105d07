"""An exported graph is named after the network's modules, whichever exporter made it."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from export.export import torch_export
from export.export.readable_names import name_after_modules
from export.export.torch_export import Attempt, core_graph
from export.graphs.runner import Graph


class Block(nn.Module):
    """A convolution with batch norm, called twice by the network, and a clip with bounds of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU6()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.act(self.norm(self.conv(features)))
        return result


class Nested(nn.Module):
    """Lists of modules, a module that is called twice, an operation outside of any module, a transposed weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6())
        self.blocks = nn.Sequential(nn.Sequential(Block()), Block())
        self.tokens = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, input_nchw: torch.Tensor) -> torch.Tensor:
        features = self.blocks[1](self.blocks(self.stem(input_nchw)))
        tokens = self.tokens(features.flatten(2).transpose(1, 2))
        logits: torch.Tensor = self.head(tokens.mean(dim=1) * 0.5)
        return logits


@functools.cache
def network() -> Nested:
    torch.manual_seed(0)
    nested = Nested().eval()
    for parameter in nested.parameters():  # none is equal to another: the optimiser would merge them
        nn.init.normal_(parameter)
    return nested


@functools.cache
def before_and_after(exporter: str) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The graph as the exporter and the optimiser named it, and the core."""
    exported = []

    def keep(model: onnx.ModelProto, parameters: frozenset[str]) -> None:
        exported.append(onnx.load_model_from_string(model.SerializeToString()))
        name_after_modules(model, parameters)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch_export, "name_after_modules", keep)
        core = core_graph(network(), 16, Attempt(exporter, 18))  # type: ignore[arg-type]
    return exported[0], core


@pytest.mark.parametrize("exporter", ["dynamo", "legacy"])
def test_nodes_and_constants_have_the_names_of_their_modules(exporter: str) -> None:
    _, core = before_and_after(exporter)
    onnx.checker.check_model(core, full_check=True)
    operators = {node.name: node.op_type for node in core.graph.node}
    assert len(operators) == len(core.graph.node)
    convolutions = [name for name, operator in operators.items() if operator == "Conv"]
    assert convolutions == ["stem.0/Conv", "blocks.0.0.conv/Conv", "blocks.1.conv/Conv", "blocks.1.conv/Conv_2"]
    assert {"stem.1/Clip", "blocks.0.0.act/Clip", "tokens/MatMul", "head/Gemm"} <= set(operators)
    assert "tokens/Mul" in operators  # outside of all modules, behind the tokens
    constants = {tensor.name for tensor in core.graph.initializer}
    assert {"stem.0.weight", "stem.0.bias", "blocks.0.0.conv.weight", "blocks.0.0.conv.bias"} <= constants
    assert {"tokens.weight", "head.weight", "head.bias", "tokens/Mul.B"} <= constants
    assert not [name for name in constants if "onnx::" in name or name.startswith(("val_", "/"))]
    input_nchw = torch.randn(3, 3, 16, 16)
    with torch.inference_mode():
        expected = network()(input_nchw).numpy()
    assert np.allclose(Graph(core.SerializeToString())(input_nchw.numpy()), expected, rtol=1e-4)


@pytest.mark.parametrize("exporter", ["dynamo", "legacy"])
def test_renaming_changes_names_alone(exporter: str) -> None:
    before, after = before_and_after(exporter)
    assert numbered(before) == numbered(after)
    assert [node.name for node in before.graph.node] != [node.name for node in after.graph.node]


def test_a_tensor_that_goes_elsewhere_is_noticed() -> None:
    before, after = before_and_after("legacy")
    moved = onnx.load_model_from_string(after.SerializeToString())
    last = moved.graph.node[-1]
    last.input[0], last.input[1] = last.input[1], last.input[0]
    assert numbered(before) != numbered(moved)


def numbered(model: onnx.ModelProto) -> list[object]:
    """The graph with numbers for names, in the order in which the names are met."""
    numbers: dict[str, int] = {}
    nodes = [
        (
            node.op_type,
            [attribute.SerializeToString(deterministic=True) for attribute in node.attribute],
            [numbers.setdefault(name, len(numbers)) for name in (*node.input, *node.output)],
        )
        for node in model.graph.node
    ]
    constants = [(numbers[tensor.name], numpy_helper.to_array(tensor).tolist()) for tensor in model.graph.initializer]
    return [nodes, constants, [numbers[port.name] for port in model.graph.output]]


def test_a_graph_with_branches_keeps_its_names() -> None:
    branches = [
        helper.make_graph(
            [helper.make_node("Mul", ["val_1", "val_2"], [f"val_{side}"], f"n_{side}")],
            side,
            [],
            [helper.make_tensor_value_info(f"val_{side}", TensorProto.FLOAT, [1])],
        )
        for side in ("then", "else")
    ]
    choose = helper.make_node("If", ["choice"], ["logits"], "n", then_branch=branches[0], else_branch=branches[1])
    graph = helper.make_graph(
        [helper.make_node("Neg", ["input"], ["val_1"], "n_1"), choose],
        "choice",
        [
            helper.make_tensor_value_info("input", TensorProto.FLOAT, [1]),
            helper.make_tensor_value_info("choice", TensorProto.BOOL, [1]),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(np.ones(1, np.float32), "val_2")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    before = model.SerializeToString(deterministic=True)
    name_after_modules(model, frozenset())
    assert model.SerializeToString(deterministic=True) == before
