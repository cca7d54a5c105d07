"""Torch's exporters: the ways to turn the network into a graph, in the order in which they are tried."""

from __future__ import annotations

import copy
import logging
import warnings
from dataclasses import dataclass
from typing import Literal

import onnx
import torch
from onnx import helper, shape_inference

from export.export.readable_names import keep_modules, name_after_modules
from export.graphs.preprocess_graph import ir_version
from pipeline.base.storage.scratch import scratch_folder
from pipeline.network.network import Network
from runtime.session import onnxruntime

NEWEST_OPSET = 21  # that runtimes two years old read

# The exporters raise these on a network that they cannot export. The errors have no common base class.
EXPORTER_ERRORS = (
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    NotImplementedError,
    AssertionError,
)


@dataclass(frozen=True)
class Attempt:
    """One way to export: which of torch's exporters, at which opset, with which batch."""

    exporter: Literal["dynamo", "legacy"]
    opset: int
    batch: Literal["dynamic", "fixed"] = "dynamic"  # fixed: one picture at a time

    def __str__(self) -> str:
        return f"{self.exporter} exporter, opset {self.opset}, {self.batch} batch"


def attempts(opset: int) -> tuple[Attempt, ...]:
    """Return every way to export, in order.

    Both exporters come at the wanted opset, then at the newest that older runtimes read; then all of these again with
    a batch of one.
    """
    opsets = dict.fromkeys((opset, max(opset, NEWEST_OPSET)))
    return tuple(
        Attempt(exporter, version, batch)
        for batch in ("dynamic", "fixed")
        for version in opsets
        for exporter in ("dynamo", "legacy")
    )


def core_graph(network: Network, size: int, attempt: Attempt) -> onnx.ModelProto:
    """Export the network and simplify the graph.

    The graph goes from `input`, float32 (batch, 3, size, size), to `logits`, float32 (batch, classes).

    Args:
        network: the trained network.
        size: side of the network's input, pixels.
        attempt: how to export. The graph takes any batch, or a batch of one where the attempt says `fixed`.

    Raises:
        One of EXPORTER_ERRORS: the exporter cannot export this network.
    """
    # Two pictures: torch takes a batch of one for a fixed batch.
    example_nchw = torch.zeros(2 if attempt.batch == "dynamic" else 1, 3, size, size)
    plain = copy.deepcopy(network).eval().to(memory_format=torch.contiguous_format)
    plain.requires_grad_(False)  # else the exporter traces gradients too, which takes a quarter longer
    _stop_writing_in_place(plain)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters warn about their own code
        export = _dynamo if attempt.exporter == "dynamo" else _legacy
        model = export(plain, example_nchw, attempt)
    parameters = frozenset(network.state_dict())
    keep_modules(model, parameters)
    model = simplify(model)
    name_after_modules(model, parameters)
    _drop_source_paths(model)
    model.ir_version = ir_version(attempt.opset)
    return model


def _stop_writing_in_place(network: Network) -> None:
    """Let activations give new tensors. The graph is the same, and torch's exporter takes a quarter less time."""
    for part in network.modules():
        if vars(part).get("inplace") is True:
            vars(part)["inplace"] = False


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold constants and batch norms, and drop idle nodes, with onnxruntime's own offline optimiser.

    At this level the optimiser writes standard operators only, so that any other runtime reads the result.
    """
    library = onnxruntime()
    options = library.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = library.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with scratch_folder("simplify") as folder:
        options.optimized_model_filepath = str(folder / "simplified.onnx")
        library.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        simplified: onnx.ModelProto = onnx.load(options.optimized_model_filepath)
    opset = next(domain.version for domain in model.opset_import if domain.domain == "")
    del simplified.opset_import[:]  # the optimiser lists every domain that onnxruntime knows, used or not
    simplified.opset_import.append(helper.make_opsetid("", opset))
    return simplified


def with_batch_of_one(core: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same core with a batch of one, for compilers that want every size fixed."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(core)
    del fixed.graph.value_info[:]
    for port in (*fixed.graph.input, *fixed.graph.output):
        port.type.tensor_type.shape.dim[0].dim_value = 1
    inferred: onnx.ModelProto = shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True)
    return inferred


def _dynamo(network: Network, example_nchw: torch.Tensor, attempt: Attempt) -> onnx.ModelProto:
    program = torch.onnx.export(
        network,
        (example_nchw,),
        input_names=["input"],
        output_names=["logits"],
        opset_version=attempt.opset,
        dynamic_shapes=({0: torch.export.Dim("batch")},) if attempt.batch == "dynamic" else None,
        dynamo=True,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    model: onnx.ModelProto = program.model_proto
    return model


def _legacy(network: Network, example_nchw: torch.Tensor, attempt: Attempt) -> onnx.ModelProto:
    with scratch_folder("legacy") as folder:
        path = folder / "core.onnx"
        torch.onnx.export(
            network,
            (example_nchw,),
            path,
            input_names=["input"],
            output_names=["logits"],
            opset_version=attempt.opset,
            dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}} if attempt.batch == "dynamic" else None,
            dynamo=False,
        )
        model: onnx.ModelProto = onnx.load(path)
    return model


def _drop_source_paths(model: onnx.ModelProto) -> None:
    """Drop stack traces and source paths: they differ between machines, and a device does not need them."""
    del model.graph.metadata_props[:]
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    for tensor in model.graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
