"""The first convolution of an int8 core, computed over blocks of pixels: the same integers in less time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

BLOCK = 2  # the side of a block, pixels; also the stride for which blocks save time
_MOST_CHANNELS = 4  # of a picture; more channels are copied fast enough


@dataclass(frozen=True)
class _Stem:
    """A convolution that takes the core's input, quantised."""

    quantize: onnx.NodeProto
    conv: onnx.NodeProto
    weights: onnx.TensorProto  # int8 (out, in, height, width)
    sides: tuple[int, int]  # of the input

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the convolution that the graph spells out."""
        return {attribute.name: helper.get_attribute_value(attribute) for attribute in self.conv.attribute}

    @property
    def is_plain(self) -> bool:
        """Whether the convolution has stride 2, and no setting that blocks would change."""
        values = {"strides": [1, 1], "dilations": [1, 1], "group": 1, **self.attributes}
        settings = (values["strides"], values["dilations"], values["group"])
        return "pads" in values and settings == ([BLOCK] * 2, [1, 1], 1)

    def margins(self) -> list[tuple[int, int]]:
        """Return how many zeros go before and behind the rows, and before and behind the columns.

        With these zeros every window begins at a block, and the last window ends with one. The number behind is
        negative where no window reaches the last row or column.
        """
        pads, margins = self.attributes["pads"], []
        for axis, side in enumerate(self.sides):
            kernel, before, behind = self.weights.dims[2 + axis], pads[axis], pads[2 + axis]
            n_outputs = (side + before + behind - kernel) // BLOCK + 1
            margins.append((before, BLOCK * (n_outputs - 1 + _n_blocks(kernel)) - side - before))
        return margins


def compute_stem_by_blocks(core: onnx.ModelProto) -> None:
    """Change a first convolution of stride 2, in place, to take 2 x 2 pixels of three channels as one pixel of twelve.

    Onnxruntime's integer convolutions copy each window pixel by pixel, as many bytes at a time as there are channels.
    Pixels, weights and sums stay the same integers, so the logits are equal to the last bit. A core without such a
    convolution stays as it is.
    """
    stem = _find_stem(core)
    if stem is None:
        return
    (top, bottom), (left, right) = stem.margins()
    pads = numpy_helper.from_array(np.array([0, 0, top, left, 0, 0, bottom, right], np.int64), "stem_pads")
    picture, position = stem.quantize.input[0], list(core.graph.node).index(stem.quantize)
    core.graph.initializer.append(pads)
    core.graph.node.insert(position, helper.make_node("Pad", [picture, pads.name], ["stem_padded"], "stem_pad"))
    core.graph.node.insert(
        position + 1, helper.make_node("SpaceToDepth", ["stem_padded"], ["stem_blocks"], "stem_blocks", blocksize=BLOCK)
    )
    stem.quantize.input[0] = "stem_blocks"
    blocks = _by_blocks(numpy_helper.to_array(stem.weights))
    changed = {"kernel_shape": blocks.shape[2:], "pads": [0] * 4, "strides": [1, 1]}
    for attribute in stem.conv.attribute:
        if attribute.name in changed:
            attribute.ints[:] = changed[attribute.name]
    stem.weights.CopyFrom(numpy_helper.from_array(blocks, stem.weights.name))


def _find_stem(core: onnx.ModelProto) -> _Stem | None:
    taking: dict[str, list[onnx.NodeProto]] = {}
    for node in core.graph.node:
        for name in node.input:
            taking.setdefault(name, []).append(node)
    picture = core.graph.input[0]
    path = [picture.name]
    for operator in ("QuantizeLinear", "DequantizeLinear", "Conv"):
        nodes = taking.get(path[-1], [])
        if [node.op_type for node in nodes] != [operator]:
            return None
        path.append(nodes[0].output[0])
    quantize, conv = taking[path[0]][0], taking[path[2]][0]
    weights = _weights_of(core, conv)
    sides = [dim.dim_value for dim in picture.type.tensor_type.shape.dim[2:]]
    if weights is None or len(sides) != 2 or weights.dims[1] > _MOST_CHANNELS:
        return None
    stem = _Stem(quantize, conv, weights, (sides[0], sides[1]))
    return stem if stem.is_plain and min(weights.dims[2:]) > BLOCK else None


def _weights_of(core: onnx.ModelProto, conv: onnx.NodeProto) -> onnx.TensorProto | None:
    """Return the integers that become a convolution's weights; None where another node takes them too."""
    dequantize = next((node for node in core.graph.node if conv.input[1] in node.output), None)
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return None
    tensors = {dequantize.input[0], dequantize.output[0]}
    if sum(not tensors.isdisjoint(node.input) for node in core.graph.node) != 2:
        return None
    return next((tensor for tensor in core.graph.initializer if tensor.name == dequantize.input[0]), None)


def _by_blocks(weights: NDArray[np.int8]) -> NDArray[np.int8]:
    """Reorder weights (out, in, height, width) to (out, 4 * in, height / 2, width / 2).

    Where a window ends inside a block, the rest of the block is zeros.
    """
    n_out, n_in, height, width = weights.shape
    rows, columns = _n_blocks(height), _n_blocks(width)
    even = np.zeros((n_out, n_in, BLOCK * rows, BLOCK * columns), weights.dtype)
    even[:, :, :height, :width] = weights
    blocks = even.reshape(n_out, n_in, rows, BLOCK, columns, BLOCK).transpose(0, 3, 5, 1, 2, 4)
    return np.ascontiguousarray(blocks.reshape(n_out, BLOCK * BLOCK * n_in, rows, columns))


def _n_blocks(kernel: int) -> int:
    return -(-kernel // BLOCK)
