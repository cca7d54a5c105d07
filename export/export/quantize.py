"""Smaller cores: int8 by static quantisation (QDQ), measured on training frames, and half precision.

`onnxruntime.quantization` and `onnxruntime.transformers.float16` do the work. Only the core becomes smaller:
preprocessing stays float, because it resizes the pixels of a large picture.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import shape_inference

from export.export.bias_correction import FrameMeans, correct_biases, frame_means, with_biases
from export.export.int8_stem import compute_stem_by_blocks
from export.graphs.preprocess_graph import batch_of
from export.graphs.runner import FRAMES_AT_ONCE, batches_of
from pipeline.base.storage.scratch import scratch_folder
from runtime.session import onnxruntime

Calibration = Literal["minmax", "percentile"]
Ranges = Any  # onnxruntime.quantization's TensorsData: the lowest and highest value of each tensor

PERCENTILE = 99.99  # per cent of a tensor's values are inside the range; the rest is clipped
HALF_OF_FP16 = 32752.0  # half of the largest half-precision number: a tensor beyond it may overflow on other frames
NO_HEAD: Collection[str] = ()
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Int8:
    """How a core becomes int8."""

    activations: Literal["u8", "s8"] = "u8"
    per_channel: bool = True  # a scale for the weights of each output channel, or one scale for all
    reduce_range: bool = False  # 7 bits, which overflow on no x86 processor
    calibration: Calibration = "minmax"
    corrected: bool = True  # the mean error of each channel is taken out of its bias

    def __str__(self) -> str:
        kind = f"int8_{self.activations}s8_{'per_channel' if self.per_channel else 'per_tensor'}"
        corrected = "_corrected" if self.corrected else ""
        return f"{kind}{'_reduced' if self.reduce_range else ''}_{self.calibration}{corrected}"


def measure_ranges(core: onnx.ModelProto, inputs_nchw: NDArray[np.float32], calibration: Calibration) -> Ranges:
    """Measure the range of every tensor that can be quantised.

    Args:
        core: the float32 core.
        inputs_nchw: (n, 3, size, size), preprocessed frames; they run a few at a time.
        calibration: `minmax`: from the lowest to the highest value; `percentile`: without the outermost values.
    """
    onnxruntime()
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    methods = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile}
    with scratch_folder("ranges") as folder, contextlib.redirect_stdout(io.StringIO()):
        path = folder / "core.onnx"
        onnx.save(shape_inference.infer_shapes(core), path)
        calibrator = create_calibrator(
            path,
            _quantisable(),
            augmented_model_path=str(folder / "with_taps.onnx"),
            calibrate_method=methods[calibration],
            extra_options={"symmetric": False, "percentile": PERCENTILE},
        )
        for batch in batches_of(inputs_nchw, batch_of(core) or FRAMES_AT_ONCE):
            calibrator.collect_data(_once(batch))  # each call frees the activations of its batch
        return calibrator.compute_data()


class Quantizer:
    """Makes int8 cores of one float32 core. What recipes share is measured once, when it is first needed."""

    def __init__(
        self, core: onnx.ModelProto, inputs_nchw: NDArray[np.float32], head: Collection[str] = NO_HEAD
    ) -> None:
        """Take the float32 core, and what its recipes share.

        Args:
            core: the float32 core; it stays as it is.
            inputs_nchw: (n, 3, size, size), the frames on which ranges and biases are measured.
            head: the parameters of layers that stay in float, as in `layers_in_float`.
        """
        self._core, self._head = with_biases(core), head
        self._inputs_nchw = inputs_nchw
        self.ranges: Callable[[Calibration], Ranges] = functools.cache(self._measure_ranges)
        self._frame_means: Callable[[], dict[str, FrameMeans]] = functools.cache(self._measure_means)
        self._uncorrected: Callable[[Int8], onnx.ModelProto] = functools.cache(self._quantise)

    def to_int8(self, recipe: Int8) -> onnx.ModelProto:
        """Quantise the core."""
        quantised = onnx.ModelProto()
        quantised.CopyFrom(self._uncorrected(replace(recipe, corrected=False)))
        if recipe.corrected:
            correct_biases(quantised, self._inputs_nchw, self._frame_means())
        return quantised

    def _measure_ranges(self, calibration: Calibration) -> Ranges:
        return measure_ranges(self._core, self._inputs_nchw, calibration)

    def _measure_means(self) -> dict[str, FrameMeans]:
        return frame_means(self._core, self._inputs_nchw)

    def _quantise(self, recipe: Int8) -> onnx.ModelProto:
        return to_int8(self._core, self.ranges(recipe.calibration), recipe, self._head)


def to_int8(core: onnx.ModelProto, ranges: Ranges, recipe: Int8, head: Collection[str] = NO_HEAD) -> onnx.ModelProto:
    """Quantise a core to int8 (QDQ), but for its last layers, and without a correction of its biases.

    Args:
        core: the float32 core; it stays as it is.
        ranges: of its tensors, from `measure_ranges`.
        recipe: how it becomes int8.
        head: the parameters of layers that stay in float, as in `layers_in_float`.
    """
    onnxruntime()
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    activations = QuantType.QUInt8 if recipe.activations == "u8" else QuantType.QInt8
    quantizer = QDQQuantizer(
        shape_inference.infer_shapes(core),
        recipe.per_channel,
        recipe.reduce_range,
        QuantType.QInt8,
        activations,
        copy.deepcopy(ranges),  # the quantizer changes them
        [],
        layers_in_float(core, head),
        _quantisable(),
        {"ActivationSymmetric": recipe.activations == "s8", "WeightSymmetric": True},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()  # inserted nodes stand at the end
    quantised: onnx.ModelProto = quantizer.model.model
    compute_stem_by_blocks(quantised)
    return quantised


def layers_in_float(core: onnx.ModelProto, head: Collection[str] = NO_HEAD) -> list[str]:
    """Return the names of the nodes that no recipe turns into integers.

    The layer of the classes, the last one, costs next to no time. In float, with all that follows it, its logits are
    not rounded to 256 levels. Where folds judge, all layers of the head stay too: each fold's weights take their place.

    Args:
        core: the float32 core; its nodes are in the order in which they run.
        head: the names of the head's parameters where folds judge, else none.
    """
    nodes = list(core.graph.node)
    last = max((position for position, node in enumerate(nodes) if node.op_type in WEIGHTED), default=len(nodes))
    return [
        node.name for position, node in enumerate(nodes) if position >= last or not set(head).isdisjoint(node.input)
    ]


def to_fp16(core: onnx.ModelProto, float_layers: Collection[str]) -> onnx.ModelProto:
    """Convert a core to half precision. Its input, its output and the named nodes stay float32."""
    onnxruntime()
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about weights that are too small to matter
        halved = convert_float_to_float16(core, keep_io_types=True, node_block_list=list(float_layers))
    _join_float_layers(halved)
    del halved.graph.value_info[:]  # the types beside layers that stayed float are out of date
    ordered = ONNXModel(halved)
    ordered.topological_sort()  # casts were appended at the end
    model: onnx.ModelProto = ordered.model
    return model


def _join_float_layers(halved: onnx.ModelProto) -> None:
    """Remove the casts to half precision and back between two layers that stay float."""
    casts = {node.output[0]: node for node in halved.graph.node if node.op_type == "Cast"}
    for node in halved.graph.node:
        for index, name in enumerate(node.input):
            back = casts.get(name)
            forth = casts.get(back.input[0]) if back is not None and _casts_to_float(back) else None
            if forth is not None and not _casts_to_float(forth):
                node.input[index] = forth.input[0]
    used = {name for node in halved.graph.node for name in node.input} | {port.name for port in halved.graph.output}
    # Twice, since dropping the cast back leaves the cast before it unused.
    for _ in range(2):
        kept = [node for node in halved.graph.node if node.op_type != "Cast" or node.output[0] in used]
        del halved.graph.node[:]
        halved.graph.node.extend(kept)
        used = {name for node in kept for name in node.input} | {port.name for port in halved.graph.output}


def _casts_to_float(cast: onnx.NodeProto) -> bool:
    return any(attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT for attribute in cast.attribute)


def layers_beyond_fp16(core: onnx.ModelProto, ranges: Ranges) -> list[str]:
    """Return the nodes with an input or output that half precision might not hold."""
    beyond = {name for name in ranges.keys() if _largest(ranges[name]) > HALF_OF_FP16}  # noqa: SIM118
    return [node.name for node in core.graph.node if beyond & {*node.input, *node.output}]


def last_layers(core: onnx.ModelProto) -> list[str]:
    """Return the nodes from the last pooling on: few, and next to the logits."""
    pooling = [i for i, node in enumerate(core.graph.node) if node.op_type in ("ReduceMean", "GlobalAveragePool")]
    return [node.name for node in core.graph.node[pooling[-1] if pooling else -1 :]]


def _once(batch: NDArray[np.float32]) -> Any:
    """Wrap one batch as onnxruntime's calibration reads it."""
    onnxruntime()
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class _Once(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._waiting = iter([{"input": np.ascontiguousarray(batch)}])

        def get_next(self) -> Mapping[str, NDArray[np.float32]] | None:
            return next(self._waiting, None)

    return _Once()


def _largest(tensor_range: Any) -> float:
    return float(np.abs(tensor_range.range_value).max())


def _quantisable() -> list[str]:
    """Return every operator that onnxruntime can quantise, in a fixed order."""
    onnxruntime()
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return sorted({*QLinearOpsRegistry, *QDQRegistry})
