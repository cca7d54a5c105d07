"""A graph in onnxruntime, as a device runs it, or as another would."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import DataError
from runtime.providers import preload, with_options
from runtime.session import EXACT_INT8, failures, keep_int8_exact, onnxruntime

FRAMES_AT_ONCE = 8
_WARM_UP_RUNS = 3

# usual: as the device's runtime opens it. as_written: node by node, int8 in float arithmetic.
# without_vnni: integer kernels that are exact on an x86 processor whose usual ones overflow.
How = Literal["usual", "as_written", "without_vnni"]


class Graph:
    """A graph with one input, and one output unless `outputs` is asked."""

    def __init__(self, graph: bytes, how: How = "usual", provider: str = "CPUExecutionProvider") -> None:
        """Open it on one provider.

        Raises:
            DataError: onnxruntime cannot open it, or cannot on this provider.
        """
        library = onnxruntime()
        options = library.SessionOptions()
        options.log_severity_level = 4
        keep_int8_exact(options)
        if how == "as_written":
            options.graph_optimization_level = library.GraphOptimizationLevel.ORT_DISABLE_ALL
        elif how == "without_vnni":
            options.add_session_config_entry(EXACT_INT8, "1")
        preload(library, [provider])
        try:
            self._session: Any = library.InferenceSession(
                graph, options, providers=with_options([provider]), enable_fallback=0
            )
        except failures() as error:
            raise DataError(f"onnxruntime cannot open the graph on {provider} ({error})") from error
        self.provider: str = self._session.get_providers()[0]
        port = self._session.get_inputs()[0]
        self._input: str = port.name
        self._takes_one = port.shape[0] == 1
        self._outputs: list[str] = [port.name for port in self._session.get_outputs()]

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Run it on one batch.

        Raises:
            DataError: onnxruntime failed.
        """
        found: NDArray[np.float32]
        (found,) = self.outputs(values).values()
        return found

    def outputs(self, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """All that it gives for one batch, by name, where it has several outputs.

        Raises:
            DataError: onnxruntime failed.
        """
        if self._takes_one and len(values) > 1:
            each = [self.outputs(one) for one in batches_of(values, 1)]
            return {name: np.concatenate([np.atleast_1d(one[name]) for one in each]) for name in self._outputs}
        try:
            results = self._session.run(None, {self._input: np.ascontiguousarray(values)})
        except failures() as error:
            raise DataError(f"onnxruntime failed ({error})") from error
        return dict(zip(self._outputs, results, strict=True))

    def all_of(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Run it on any number of pictures, a few at a time."""
        return np.concatenate([self(batch) for batch in batches_of(values, FRAMES_AT_ONCE)])


def batches_of(values: NDArray[Any], size: int) -> Iterator[NDArray[Any]]:
    """Consecutive parts of the first axis."""
    return (values[start : start + size] for start in range(0, len(values), size))


def median_ms(graphs: Sequence[Graph], picture: NDArray[Any], rounds: int) -> list[float]:
    """The median time of each graph on one picture (a batch of one), in turns, so that a busy moment hits all alike."""
    taken: list[list[float]] = [[] for _ in graphs]
    for number in range(_WARM_UP_RUNS + rounds):
        for graph, times in zip(graphs, taken, strict=True):
            started = time.perf_counter()
            graph(picture)
            if number >= _WARM_UP_RUNS:
                times.append(1000 * (time.perf_counter() - started))
    return [statistics.median(times) for times in taken]


def open_graph(path: Path) -> Graph:
    """Open one of the parts that compilers take.

    Raises:
        DataError: it is missing or broken.
    """
    try:
        return Graph(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing; run `pipe export`") from error
    except DataError as error:
        raise DataError(f"{path}: {error}; run `pipe export` again") from error
