"""Graphs in onnxruntime, opened as a device opens them or with other kernels."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from pipeline.base.errors import DataError
from pipeline.base.project import missing
from runtime.answers import Answers, joined
from runtime.providers import preload, with_options
from runtime.session import EXACT_INT8, failures, onnxruntime, session_options

FRAMES_AT_ONCE = 8
_WARM_UP_RUNS = 3

Weights = Mapping[str, NDArray[Any]]  # by the name of the initializer
NO_WEIGHTS: Weights = {}

# usual: as the device's runtime opens a graph. as_written: node by node, with int8 computed in float.
# without_vnni: the exact integer kernels, which the runtime uses on x86 processors whose usual kernels overflow.
How = Literal["usual", "as_written", "without_vnni"]


class Graph:
    """A graph with one input, opened in onnxruntime on one provider."""

    def __init__(self, graph: bytes, how: How = "usual", provider: str = "CPUExecutionProvider") -> None:
        """Open a graph.

        Args:
            graph: the serialised ONNX model.
            how: which kernels run it.
            provider: the execution provider of onnxruntime.

        Raises:
            DataError: onnxruntime cannot open the graph, or cannot open it on this provider.
        """
        self._session: Any = open_session(graph, how, provider)
        self.provider: str = self._session.get_providers()[0]
        port = self._session.get_inputs()[0]
        self._input: str = port.name
        self._has_batch_of_one = port.shape[0] == 1
        self._outputs: list[str] = [port.name for port in self._session.get_outputs()]

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Run one batch, and return the first output: of a core, the logits.

        Raises:
            DataError: onnxruntime failed.
        """
        output: NDArray[np.float32] = next(iter(self.outputs(values).values()))
        return output

    def answers(self, values: NDArray[Any], weights: Weights = NO_WEIGHTS) -> Answers:
        """Run one batch of pictures; without a known score the largest logit stands in its place.

        Args:
            values: the pictures.
            weights: as for `outputs`.

        Raises:
            DataError: onnxruntime failed.
        """
        return Answers.of_outputs(list(self.outputs(values, weights).values()))

    def outputs(self, values: NDArray[Any], weights: Weights = NO_WEIGHTS) -> dict[str, NDArray[Any]]:
        """Run one batch and return every output by its name.

        Args:
            values: the batch.
            weights: take the place of the graph's own in this run; see `with_open_weights`.

        Raises:
            DataError: onnxruntime failed.
        """
        if self._has_batch_of_one and len(values) > 1:
            results_by_picture = [self.outputs(picture, weights) for picture in batches_of(values, 1)]
            return {
                name: np.concatenate([np.atleast_1d(results[name]) for results in results_by_picture])
                for name in self._outputs
            }
        try:
            results = self._session.run(None, {self._input: np.ascontiguousarray(values), **weights})
        except failures() as error:
            raise DataError(f"onnxruntime failed ({error})") from error
        return dict(zip(self._outputs, results, strict=True))

    def run_in_batches(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Run any number of pictures, `FRAMES_AT_ONCE` at a time, and return their logits (n, classes)."""
        return self.answers_in_batches(values).logits

    def answers_in_batches(self, values: NDArray[Any], weights: Weights = NO_WEIGHTS) -> Answers:
        """Run any number of pictures, `FRAMES_AT_ONCE` at a time, with weights as `outputs` takes them."""
        return joined([self.answers(batch, weights) for batch in batches_of(values, FRAMES_AT_ONCE)])


def with_open_weights(graph: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """Return a copy of a graph in which some weights are inputs too, so that each run may bring its own.

    A run that brings none takes those of the graph. Their shapes are left open.

    Args:
        graph: a core, or a whole graph.
        names: of initializers.
    """
    opened = onnx.ModelProto()
    opened.CopyFrom(graph)
    kinds = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    opened.graph.input.extend(helper.make_tensor_value_info(name, kinds[name], None) for name in names)
    return opened


def open_session(
    graph: bytes, how: How = "usual", provider: str = "CPUExecutionProvider", threads: int | None = None
) -> Any:
    """Open a graph in onnxruntime with the options of the device's runtime.

    Args:
        graph: the serialised ONNX model.
        how: which kernels run it.
        provider: the execution provider of onnxruntime.
        threads: CPU threads for one run; None: onnxruntime chooses.

    Raises:
        DataError: onnxruntime cannot open the graph, or cannot open it on this provider.
    """
    library = onnxruntime()
    options = session_options(library, threads)
    if how == "as_written":
        options.graph_optimization_level = library.GraphOptimizationLevel.ORT_DISABLE_ALL
    elif how == "without_vnni":
        options.add_session_config_entry(EXACT_INT8, "1")
    preload(library, [provider])
    try:
        return library.InferenceSession(graph, options, providers=with_options([provider]), enable_fallback=0)
    except failures() as error:
        raise DataError(f"onnxruntime cannot open the graph on {provider} ({error})") from error


def batches_of(values: NDArray[Any], size: int) -> Iterator[NDArray[Any]]:
    """Yield consecutive parts of the first axis, each of `size` entries but the last."""
    return (values[start : start + size] for start in range(0, len(values), size))


def median_ms(graphs: Sequence[Graph], picture: NDArray[Any], rounds: int) -> list[float]:
    """Measure the median time of each graph, milliseconds. The graphs run in turns, so that other load hits all alike.

    Args:
        graphs: what is timed.
        picture: the input of every graph, a batch of one.
        rounds: how often each graph is timed, after the warm-up runs.
    """
    times_ms: list[list[float]] = [[] for _ in graphs]
    for round_index in range(_WARM_UP_RUNS + rounds):
        for graph, times in zip(graphs, times_ms, strict=True):
            started = time.perf_counter()
            graph(picture)
            if round_index >= _WARM_UP_RUNS:
                times.append(1000 * (time.perf_counter() - started))
    return [statistics.median(times) for times in times_ms]


def open_graph(path: Path) -> Graph:
    """Open `preprocess.onnx` or `core.onnx`, the parts that compilers take.

    Raises:
        DataError: the file is missing or broken.
    """
    try:
        return Graph(path.read_bytes())
    except FileNotFoundError as error:
        raise missing(path) from error
    except DataError as error:
        raise DataError(f"{path}: {error}; run `pipe export` again") from error
