"""Bias correction: the mean error of each channel of an int8 core, measured layer by layer and taken out of the bias.

Rounding weights and activations shifts the mean of every channel a little. The shifts of fifty layers add up, and they
are the same for every picture. Where pictures differ little, the shifts are larger than what tells the classes apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.graphs.preprocess_graph import batch_of
from export.graphs.runner import FRAMES_AT_ONCE, batches_of, open_session
from pipeline.base.errors import DataError
from runtime.session import failures

MOST_FRAMES = 32  # all frames are in memory at once, with the tensors of a few layers
WITH_BIAS = ("Conv", "ConvTranspose", "Gemm")

FrameMeans = NDArray[np.float64]  # (frames, channels), over the positions of a layer's output
Batches = list[NDArray[Any]]
_INT32 = np.iinfo(np.int32)


def with_biases(core: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which every layer that may have a bias has one; new ones are zeros."""
    complete = onnx.ModelProto()
    complete.CopyFrom(core)
    weights = {tensor.name: tensor for tensor in complete.graph.initializer}
    for node in complete.graph.node:
        if node.op_type in WITH_BIAS and len(node.input) == 2 and node.input[1] in weights:
            zeros = numpy_helper.from_array(np.zeros(_n_channels(node, weights), np.float32), f"{node.name}_bias")
            complete.graph.initializer.append(zeros)
            node.input.append(zeros.name)
    return complete


def frame_means(core: onnx.ModelProto, inputs_nchw: NDArray[np.float32]) -> dict[str, FrameMeans]:
    """Measure each frame's mean of each channel, for the output of every layer with a bias.

    Args:
        core: the float32 core.
        inputs_nchw: (n, 3, size, size), preprocessed frames; the first `MOST_FRAMES` are used.
    """
    return {layer.name: _means(batches) for layer, batches in _run_by_layer(core, inputs_nchw[:MOST_FRAMES])}


def correct_biases(
    quantised: onnx.ModelProto, inputs_nchw: NDArray[np.float32], expected: Mapping[str, FrameMeans]
) -> None:
    """Change the integer biases of a core, in place, until each channel has the float32 core's mean.

    The layers are corrected in order. So each one is measured behind layers that are correct already. A shift that
    differs from frame to frame is taken for chance in part, and corrected in part.

    Args:
        quantised: the int8 core (QDQ). Layers whose bias is float stay as they are.
        inputs_nchw: the frames of which `expected` was measured.
        expected: what `frame_means` measured of the float32 core.

    Raises:
        DataError: onnxruntime cannot run a layer.
    """
    biases = _IntegerBiases(quantised)
    for layer, batches in _run_by_layer(quantised, inputs_nchw[:MOST_FRAMES]):
        if layer.name in expected and biases.has(layer):
            change = biases.add(layer, -_shift(_means(batches) - expected[layer.name]))
            for batch in batches:
                np.add(batch, change.reshape(-1, *[1] * (batch.ndim - 2)), out=batch)


class _IntegerBiases:
    """The int32 biases of a core and their scales."""

    def __init__(self, core: onnx.ModelProto) -> None:
        self._tensors = {tensor.name: tensor for tensor in core.graph.initializer}
        nodes = (node for node in core.graph.node if node.op_type == "DequantizeLinear")
        self._nodes = {node.output[0]: node for node in nodes if node.input[0] in self._tensors}

    def has(self, layer: onnx.NodeProto) -> bool:
        """Whether the layer's bias is int32."""
        return len(layer.input) > 2 and layer.input[2] in self._nodes

    def add(self, layer: onnx.NodeProto, change: NDArray[np.float64]) -> NDArray[np.float32]:
        """Add to a layer's bias, (channels,), and return what was added after rounding."""
        node = self._nodes[layer.input[2]]
        tensor, scale = self._tensors[node.input[0]], numpy_helper.to_array(self._tensors[node.input[1]])
        before = numpy_helper.to_array(tensor).astype(np.int64)
        after = np.clip(np.rint(before + change / scale), _INT32.min, _INT32.max).astype(np.int32)
        tensor.CopyFrom(numpy_helper.from_array(after, tensor.name))
        added: NDArray[np.float32] = ((after - before) * scale.astype(np.float64)).astype(np.float32)
        return added


def _shift(differences: FrameMeans) -> NDArray[np.float64]:
    """Estimate the shift that all frames share, (channels,), from each frame's difference, (frames, channels).

    The mean is shrunk towards zero by the share of its square that chance explains (James and Stein).
    """
    mean: NDArray[np.float64] = differences.mean(axis=0)
    if len(differences) == 1:
        return mean
    by_chance = differences.var(axis=0, ddof=1) / len(differences)
    kept = np.maximum(0, 1 - by_chance / np.maximum(np.square(mean), np.finfo(np.float64).tiny))
    shrunk: NDArray[np.float64] = kept * mean
    return shrunk


def _means(batches: Batches) -> FrameMeans:
    means = [batch.reshape(*batch.shape[:2], -1).mean(axis=2) for batch in batches]
    return np.asarray(np.concatenate(means), np.float64)


def _run_by_layer(graph: onnx.ModelProto, inputs_nchw: NDArray[np.float32]) -> Iterator[tuple[onnx.NodeProto, Batches]]:
    """Run all frames up to one layer with a bias after the other, and yield the layer with its output for every batch.

    A batch that is changed in place goes on to the next layers as it was changed.
    """
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    size = batch_of(graph) or FRAMES_AT_ONCE
    values: dict[str, Batches] = {graph.graph.input[0].name: list(batches_of(np.ascontiguousarray(inputs_nchw), size))}
    parts = list(_parts(graph))
    waiting = Counter(name for part in parts for name in _read(part) if name not in constants)
    for part in parts:
        reads = [name for name in _read(part) if name not in constants]
        writes = [name for node in part for name in node.output if name in waiting or node is part[-1]]
        session = _session(graph, part, [constants[name] for name in _read(part) if name in constants], values, writes)
        feeds = ({name: values[name][index] for name in reads} for index in range(len(values[reads[0]])))
        results = [_run(session, writes, feed) for feed in feeds]
        values.update({name: [result[index] for result in results] for index, name in enumerate(writes)})
        yield part[-1], values[part[-1].output[0]]
        waiting.subtract(reads)
        values = {name: batches for name, batches in values.items() if waiting[name] > 0}


def _parts(graph: onnx.ModelProto) -> Iterator[Sequence[onnx.NodeProto]]:
    """Cut a graph behind each layer with a bias; what follows the last one is left out."""
    part: list[onnx.NodeProto] = []
    for node in graph.graph.node:
        part.append(node)
        if node.op_type in WITH_BIAS and len(node.input) > 2:
            yield part
            part = []


def _read(part: Sequence[onnx.NodeProto]) -> list[str]:
    """Return the names of the tensors that a part takes from outside."""
    made = {name for node in part for name in node.output}
    return [name for name in dict.fromkeys(name for node in part for name in node.input) if name and name not in made]


def _session(
    graph: onnx.ModelProto,
    part: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto],
    values: Mapping[str, Batches],
    writes: Sequence[str],
) -> Any:
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(values[name][0].dtype), [None] * values[name][0].ndim
        )
        for name in _read(part)
        if name in values
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in writes]
    cut = helper.make_graph(part, "part", inputs, outputs, constants)
    model = helper.make_model(cut, opset_imports=graph.opset_import, ir_version=graph.ir_version)
    # One thread, so that the sums and with them the biases are the same on every machine.
    return open_session(model.SerializeToString(), threads=1)


def _run(session: Any, writes: Sequence[str], feed: Mapping[str, NDArray[Any]]) -> Batches:
    try:
        results: Batches = session.run(writes, feed)
    except failures() as error:
        raise DataError(f"onnxruntime failed ({error})") from error
    return results


def _n_channels(layer: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> int:
    dims = weights[layer.input[1]].dims
    if layer.op_type == "Conv":
        return int(dims[0])
    attributes = {attribute.name: attribute.i for attribute in layer.attribute}
    if layer.op_type == "ConvTranspose":
        return int(dims[1] * attributes.get("group", 1))
    return int(dims[0] if attributes.get("transB") else dims[1])
