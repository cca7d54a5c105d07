from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.external_data_helper import uses_external_data
from torch import nn

from export.export import torch_export
from export.export.torch_export import Attempt, attempts, core_graph, with_batch_of_one
from export.graphs.preprocess_graph import batch_of
from export.graphs.runner import Graph
from runtime.session import failures, onnxruntime


class Tiny(nn.Module):
    """A convolution with batch norm, pooling and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, input_nchw: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.norm(self.convolution(input_nchw)).relu()
        logits: torch.Tensor = self.head(features.mean(dim=(2, 3)))
        return logits


@pytest.fixture(scope="module")
def network() -> Any:
    torch.manual_seed(0)
    return Tiny().eval()


@functools.cache
def exported(attempt: Attempt) -> onnx.ModelProto:
    torch.manual_seed(0)
    return core_graph(Tiny().eval(), 16, attempt)  # type: ignore[arg-type]


@pytest.mark.parametrize("attempt", attempts(18), ids=str)
def test_every_exporter_computes_what_torch_computes_at_any_batch(network: Any, attempt: Attempt) -> None:
    core = exported(attempt)
    onnx.checker.check_model(core, full_check=True)
    graph = Graph(core.SerializeToString())
    for batch in (1, 2, 7):
        input_nchw = torch.randn(batch, 3, 16, 16)
        with torch.inference_mode():
            assert np.allclose(graph(input_nchw.numpy()), network(input_nchw).numpy(), atol=1e-6)


@pytest.mark.parametrize("attempt", attempts(18), ids=str)
def test_a_core_is_simple_whole_and_old_enough_for_older_runtimes(attempt: Attempt) -> None:
    core = exported(attempt)
    assert [(each.domain, each.version) for each in core.opset_import] == [("", attempt.opset)]
    assert core.ir_version == {18: 8, 21: 10}[attempt.opset]
    assert "BatchNormalization" not in {node.op_type for node in core.graph.node}
    assert not any(uses_external_data(tensor) for tensor in core.graph.initializer)


def test_activations_in_place_give_the_graph_of_those_that_are_not_and_stay_in_place() -> None:
    graphs = set()
    for in_place in (True, False):
        torch.manual_seed(0)
        network = nn.Sequential(Tiny(), nn.ReLU6(inplace=in_place)).eval()
        core = core_graph(network, 16, Attempt("dynamo", 18, "dynamic"))  # type: ignore[arg-type]
        graphs.add(core.SerializeToString(deterministic=True))
        assert network[1].inplace is in_place
    assert len(graphs) == 1


def test_an_activation_in_place_is_traced_as_a_new_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = list[nn.Module]()

    def trace(network: nn.Module, *_: object) -> onnx.ModelProto:
        traced.extend(network.modules())
        raise RuntimeError("seen")

    monkeypatch.setattr(torch_export, "_dynamo", trace)
    with pytest.raises(RuntimeError, match="seen"):
        core_graph(nn.Sequential(nn.ReLU(inplace=True)), 16, Attempt("dynamo", 18, "dynamic"))  # type: ignore[arg-type]
    assert [part.inplace for part in traced if isinstance(part, nn.ReLU)] == [False]


def test_dynamo_comes_first_the_legacy_exporter_next_newer_opsets_then_and_fixed_batches_last() -> None:
    dynamic = [
        "dynamo exporter, opset 18, dynamic batch", "legacy exporter, opset 18, dynamic batch",
        "dynamo exporter, opset 21, dynamic batch", "legacy exporter, opset 21, dynamic batch",
    ]  # fmt: skip
    fixed = [each.replace("dynamic", "fixed") for each in dynamic]
    assert [str(each) for each in attempts(18)] == dynamic + fixed
    assert [each.opset for each in attempts(22)] == [22] * 4


@pytest.mark.parametrize("attempt", attempts(18), ids=str)
def test_a_core_takes_any_batch_or_says_that_it_takes_one_picture(attempt: Attempt) -> None:
    core = exported(attempt)
    assert batch_of(core) == (None if attempt.batch == "dynamic" else 1)
    session = onnxruntime().InferenceSession(core.SerializeToString(), providers=["CPUExecutionProvider"])
    two_nchw = np.zeros((2, 3, 16, 16), np.float32)
    if attempt.batch == "dynamic":
        assert session.run(None, {"input": two_nchw})[0].shape == (2, 4)
    else:
        with pytest.raises(failures()):
            session.run(None, {"input": two_nchw})


def test_a_core_of_fixed_sizes_says_the_same() -> None:
    core = exported(Attempt("dynamo", 18))
    fixed = with_batch_of_one(core)
    onnx.checker.check_model(fixed, full_check=True)
    ports = (*fixed.graph.input, *fixed.graph.output, *fixed.graph.value_info)
    assert all(size.dim_value > 0 for port in ports for size in port.type.tensor_type.shape.dim)
    input_nchw = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)
    assert np.array_equal(Graph(fixed.SerializeToString())(input_nchw), Graph(core.SerializeToString())(input_nchw))
    assert core.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
