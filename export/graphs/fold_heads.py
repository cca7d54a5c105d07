"""The graphs of the folds: a graph that ships, with the head and the known score of one fold in place of its own.

The backbone needs no labels, so it is the same in every fold: its weights are frozen, and the ranges of integers are
measured on pixels. The head is the layer of the classes. Every graph holds it in floating point and by the names of
torch's parameters, so that other weights can be put in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from export.graphs.runner import Graph, with_open_weights
from export.graphs.score_graph import weights_of_score
from pipeline.base.errors import DataError
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.network.calibration import Calibration
from pipeline.network.checkpoint import Checkpoint
from pipeline.network.out_of_fold import FoldHead, read_fold_heads, read_out_of_fold
from runtime.answers import Answers, joined

_HEAD = "head."  # of the names of the network's parameters


@dataclass(frozen=True)
class FoldHeads:
    """The heads of the folds, and the head that they take the place of."""

    shipped: Mapping[str, Tensor]  # by the name of the parameter in the whole network
    heads: Sequence[FoldHead]

    def __post_init__(self) -> None:
        if not self.heads:
            raise ValueError("no fold has a head")

    @property
    def calibrations(self) -> list[Calibration]:
        """The calibration of each fold."""
        return [head.calibration for head in self.heads]

    def weights_of(self, fold: int, graph: onnx.ModelProto) -> dict[str, NDArray[Any]]:
        """Return what takes the place of a graph's weights: the head of a fold, and its known score if there is one.

        Args:
            fold: the number of the fold.
            graph: a core, or a whole graph, in any precision.

        Raises:
            DataError: the graph does not hold a parameter of the head as it is: a hidden layer in integers.
        """
        head = self.heads[fold]
        tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
        weights = {} if head.known_score is None else weights_of_score(graph, head.known_score)
        for name, shipped in self.shipped.items():
            of_fold = head.state_dict[name.removeprefix(_HEAD)]
            found = _in_place_of(tensors[name], shipped.numpy(), of_fold.numpy()) if name in tensors else None
            if found is None:
                raise DataError(f"the graph does not hold {name} in floating point, so no fold can judge it")
            weights[name] = found
        return weights


def _in_place_of(
    tensor: onnx.TensorProto, shipped: NDArray[np.float32], of_fold: NDArray[np.float32]
) -> NDArray[Any] | None:
    """Return the weights of a fold as a graph holds those that ship; exporters may have transposed them."""
    held = numpy_helper.to_array(tensor)
    if not np.issubdtype(held.dtype, np.floating):
        return None
    # onnxruntime's converter raises what would vanish in float16 to its smallest number, instead of rounding it.
    tolerance = float(np.finfo(held.dtype).smallest_subnormal) if held.dtype == np.float16 else 0.0
    for turned in (lambda values: values, np.transpose):
        expected = turned(shipped).astype(held.dtype)
        if expected.shape == held.shape and np.allclose(expected, held, rtol=0, atol=tolerance):
            return np.ascontiguousarray(turned(of_fold).astype(held.dtype))
    return None


class GraphOfFolds:
    """A graph in one session, whose head and known score are those of one fold after the other.

    A session for each fold would cost its optimisation anew, which takes longer than the pictures of a small project.
    """

    def __init__(self, graph: onnx.ModelProto, folds: FoldHeads) -> None:
        """Open a graph.

        Args:
            graph: the graph that ships, or its core.
            folds: the heads.

        Raises:
            DataError: no fold can judge the graph, or onnxruntime cannot open it.
        """
        self._weights = [folds.weights_of(fold, graph) for fold in range(len(folds.heads))]
        self._graph = Graph(with_open_weights(graph, self._weights[0]).SerializeToString())

    def answers(self, fold: int, values: NDArray[Any]) -> Answers:
        """Return the answers for pictures, with the head of a fold.

        Args:
            fold: its number.
            values: any number of pictures, or of preprocessed ones, as the graph takes them.

        Raises:
            DataError: onnxruntime failed.
        """
        return self._graph.answers_in_batches(values, self._weights[fold])


def read_folds(checkpoint: Checkpoint, project: Project) -> FoldHeads:
    """Read the heads of the folds that `train` left.

    Raises:
        DataError: the file is missing or broken, or holds no head.
    """
    heads = read_fold_heads(project.fold_heads)
    if not heads:
        raise DataError(
            f"{project.fold_heads}: found no head; the checkpoint is judged by folds; run `pipe train` again"
        )
    shipped = {name: value for name, value in checkpoint.state_dict.items() if name.startswith(_HEAD)}
    return FoldHeads(shipped, heads)


def judged_rows(rows: Sequence[Row]) -> list[Row]:
    """The frames that the folds judge: all of every clip, without copies."""
    return [row for row in rows if row.fold is not None and not row.is_copy]


def answers_of_torch(rows: Sequence[Row], checkpoint: Checkpoint, project: Project) -> Answers:
    """Torch's answers for frames, each by the head that has not learned from it.

    Args:
        rows: frames that have a fold.
        checkpoint: gives the classes.
        project: where `train` left the logits.

    Raises:
        DataError: as `read_out_of_fold`.
    """
    return read_out_of_fold(rows, checkpoint.classes, project.out_of_fold_csv())


def positions_by_fold(rows: Sequence[Row]) -> Iterator[tuple[int, list[int]]]:
    """Yield the number of each fold, and the positions of its frames."""
    for fold in sorted({row.fold for row in rows if row.fold is not None}):
        yield fold, [position for position, row in enumerate(rows) if row.fold == fold]


def ask_by_fold(
    core: onnx.ModelProto, rows: Sequence[Row], folds: FoldHeads, inputs_nchw: NDArray[np.float32]
) -> Answers:
    """Ask a core about frames, each with the head of the fold that has not learned from it.

    Args:
        core: of the graph that ships.
        rows: the frames, each with its fold.
        folds: the heads.
        inputs_nchw: the frames, preprocessed.

    Raises:
        DataError: no fold can judge the graph, or onnxruntime failed.
    """
    graph = GraphOfFolds(core, folds)
    parts = [(positions, graph.answers(fold, inputs_nchw[positions])) for fold, positions in positions_by_fold(rows)]
    order = np.argsort(np.concatenate([positions for positions, _ in parts]))
    return joined([of_fold for _, of_fold in parts])[order]
