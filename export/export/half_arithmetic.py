"""The logits of a core on a processor that computes in half precision: every sum is rounded after every product.

Processors such as Cortex-A76 do so. Here onnxruntime computes half-precision layers in float32, and half-precision sums
of numpy and torch are float32 inside too. So none of them shows what such a processor gives.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.graphs.gates import Logits
from export.graphs.runner import open_session

SUMMED = ("Conv", "Gemm", "MatMul")  # the operators that onnxruntime computes in half precision where it can
MOST_PRODUCTS = 1_500_000_000  # of all pictures together: the pictures are as many as fit, and at least one

Values = Mapping[str, NDArray[Any]]
Step = Callable[[Values], list[NDArray[Any]]]


def logits_in_half(core: onnx.ModelProto, inputs_nchw: NDArray[np.float32]) -> Logits:
    """Run a half-precision core as a processor with half-precision arithmetic does.

    Returns:
        The logits of the first pictures, (pictures, classes): as many as `MOST_PRODUCTS` allows.

    Raises:
        DataError: onnxruntime cannot run a layer.
    """
    simulation, logits = _Simulation(core), []
    with _one_thread():
        for picture in inputs_nchw:
            logits.append(simulation(picture[np.newaxis]))
            if simulation.n_products * (1 + 1 / len(logits)) > MOST_PRODUCTS:
                break
    return np.concatenate(logits)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: the sums are so short that threads would wait for each other most of the time."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


class _Simulation:
    """A core whose layers run one by one: sums in half precision here, all else in onnxruntime."""

    def __init__(self, core: onnx.ModelProto) -> None:
        self._core = core
        self._constants = {tensor.name: np.array(numpy_helper.to_array(tensor)) for tensor in core.graph.initializer}
        self._steps: list[Step] = []  # made with the first picture, whose values tell the types of tensors
        self.n_products = 0  # of all pictures so far

    def __call__(self, input_nchw: NDArray[np.float32]) -> Logits:
        """Return the logits of one picture, given as a batch."""
        values = {**self._constants, self._core.graph.input[0].name: np.ascontiguousarray(input_nchw)}
        waiting = Counter(name for node in self._core.graph.node for name in _names_read(node))
        for index, node in enumerate(self._core.graph.node):
            if index == len(self._steps):
                self._steps.append(self._step(node, values))
            values.update(zip(node.output, self._steps[index](values), strict=True))
            for name in _names_read(node):
                waiting[name] -= 1
                if not waiting[name] and name not in self._constants:
                    values.pop(name, None)
        logits: Logits = values[self._core.graph.output[0].name]
        return logits

    def _step(self, node: onnx.NodeProto, values: Values) -> Step:
        """Return the function that computes a node."""
        operands = [values[name] for name in node.input[:2]] if node.op_type in SUMMED else []
        is_half = bool(operands) and all(value.dtype == np.float16 and value.ndim >= 2 for value in operands)
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if not is_half or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
            return self._step_in_onnxruntime(node, values)

        def step(values: Values) -> list[NDArray[Any]]:
            tensors = [torch.from_numpy(np.ascontiguousarray(values[name])) for name in node.input if name]
            sums = _SUMS[node.op_type](tensors, attributes)
            self.n_products += sums.numel() * _n_terms(node.op_type, values[node.input[1]], sums.shape[-1])
            return [sums.numpy()]

        return step

    def _step_in_onnxruntime(self, node: onnx.NodeProto, values: Values) -> Step:
        """Return a session of this node alone, as a function."""
        names = [name for name in dict.fromkeys(_names_read(node)) if name in values]
        inputs = [name for name in names if name not in self._constants]
        graph = helper.make_graph(
            [node],
            "layer",
            [_port(name, values[name]) for name in inputs],
            [helper.make_empty_tensor_value_info(name) for name in node.output if name],
            [tensor for tensor in self._core.graph.initializer if tensor.name in names],
        )
        model = helper.make_model(graph, opset_imports=self._core.opset_import, ir_version=self._core.ir_version)
        # One thread each: a session has its threads for itself, and a large network has a thousand layers.
        session = open_session(model.SerializeToString(), threads=1)

        def step(values: Values) -> list[NDArray[Any]]:
            results = iter(session.run(None, {name: values[name] for name in inputs}))
            return [next(results) if name else np.empty(0) for name in node.output]

        return step


def _port(name: str, value: NDArray[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def _names_read(node: onnx.NodeProto) -> list[str]:
    """Return the names of the tensors that a node reads, also inside the branches of a condition."""
    inner = [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
    return [name for name in node.input if name] + [
        name for graph in inner for inner_node in graph.node for name in _names_read(inner_node)
    ]


def _n_terms(operator: str, weights: NDArray[Any], n_columns: int) -> int:
    """Return how many products are summed for each number of a layer's output."""
    if operator == "Conv":
        return int(weights[0].size)
    return int(weights.shape[-2] if operator == "MatMul" else weights.size // n_columns)


def _conv(tensors: list[torch.Tensor], attributes: Mapping[str, Any]) -> torch.Tensor:
    """Convolve (batch, channels, …) by (out channels, channels of a group, …), and add the bias at the end."""
    values, weights = tensors[:2]
    n_axes, groups = weights.dim() - 2, attributes.get("group", 1)
    strides = attributes.get("strides") or [1] * n_axes
    dilations = attributes.get("dilations") or [1] * n_axes
    pads = attributes.get("pads") or [0] * 2 * n_axes
    # torch wants the last axis first, and both ends of an axis together.
    ends = [pads[axis + end * n_axes] for axis in reversed(range(n_axes)) for end in (0, 1)]
    padded = torch.nn.functional.pad(values, ends)
    padded = padded.reshape(len(values), groups, -1, *padded.shape[2:])
    taps = list(itertools.product(*(range(size) for size in weights.shape[2:])))
    by_tap = weights.reshape(groups, -1, weights.shape[1], len(taps))
    sums = None
    for channel, (number, tap) in itertools.product(range(weights.shape[1]), enumerate(taps)):
        window = tuple(
            slice(at * dilation, size - (reach - 1 - at) * dilation, stride)
            for at, reach, dilation, stride, size in zip(
                tap, weights.shape[2:], dilations, strides, padded.shape[3:], strict=True
            )
        )
        seen = padded[(slice(None), slice(None), slice(channel, channel + 1), *window)].contiguous()
        weight = by_tap[:, :, channel, number].reshape(groups, -1, *[1] * n_axes)
        if sums is None:
            sums = seen.new_zeros((len(values), *weight.shape[:2], *seen.shape[3:]))
        torch.addcmul(sums, seen, weight, out=sums)  # computes in float32, and rounds its result to half precision
    assert sums is not None  # noqa: S101  # a convolution has weights
    result: torch.Tensor = sums.flatten(1, 2)
    if len(tensors) == 3:
        result = result + tensors[2][(..., *[None] * n_axes)]
    return result


def _matmul(tensors: list[torch.Tensor], _: Mapping[str, Any]) -> torch.Tensor:
    """Multiply (…, rows, inner) by (…, inner, columns)."""
    left, right = tensors
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    sums = left.new_zeros((*batch, left.shape[-2], right.shape[-1]))
    for index in range(left.shape[-1]):
        torch.addcmul(sums, left[..., index : index + 1], right[..., index : index + 1, :], out=sums)
    return sums


def _gemm(tensors: list[torch.Tensor], attributes: Mapping[str, Any]) -> torch.Tensor:
    """Compute alpha * left * right + beta * bias, either factor transposed where the node says so."""
    left = tensors[0].T if attributes.get("transA", 0) else tensors[0]
    right = tensors[1].T if attributes.get("transB", 0) else tensors[1]
    result: torch.Tensor = _matmul([left, right.contiguous()], {}) * attributes.get("alpha", 1.0)
    if len(tensors) == 3:
        result = result + tensors[2] * attributes.get("beta", 1.0)
    return result


_SUMS = {"Conv": _conv, "Gemm": _gemm, "MatMul": _matmul}
