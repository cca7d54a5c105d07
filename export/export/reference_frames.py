"""The frames that export needs: some to calibrate and choose on, and some to judge the chosen variants by."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from export.graphs.fold_heads import FoldHeads, answers_of_torch, ask_by_fold, judged_rows, read_folds
from export.graphs.gates import LogitComparison
from export.graphs.preprocess_graph import preprocess_graph
from export.graphs.reference import frames_of_equal_size, torch_of
from export.graphs.runner import Graph
from pipeline.base.errors import DataError
from pipeline.base.manifest import Row, class_names
from pipeline.base.progress import track
from pipeline.base.project import Project
from pipeline.base.storage.disk_space import mapped_array
from pipeline.network.checkpoint import Checkpoint, class_numbers
from runtime.answers import Answers, joined

OPSET = 18  # of the preprocessing here; its nodes mean the same in every later opset


@dataclass(frozen=True)
class ReferenceFrames:
    """Some frames, preprocessed by the graph, with torch's answers for the same pixels."""

    classes: Sequence[str]
    truth: NDArray[np.int64]  # (n,) class indices
    inputs_nchw: NDArray[np.float32]  # (n, 3, size, size); mapped from a file, since they may not fit into memory
    torch: Answers
    rows: Sequence[Row] = ()  # (n,) the frames
    folds: FoldHeads | None = None  # None: one network answers for all frames

    def ask(self, core: onnx.ModelProto) -> Answers:
        """Ask a core about the frames; with folds, each frame by the head that has not learned from it.

        Raises:
            DataError: onnxruntime failed, or no fold can judge the core.
        """
        if self.folds is None:
            return Graph(core.SerializeToString()).answers_in_batches(self.inputs_nchw)
        return ask_by_fold(core, self.rows, self.folds, self.inputs_nchw)

    def compare(self, graph: Answers, *, has_score: bool) -> LogitComparison:
        """Put a graph's answers beside torch's. The thresholds, which each graph has of its own, are not fitted yet.

        Args:
            graph: for the same frames.
            has_score: whether the graph gives a known score.
        """
        scores = (self.torch.scores, graph.scores) if has_score else (None, None)
        return LogitComparison(self.classes, self.truth, self.torch.logits, graph.logits, *scores)


def calibration_rows(rows: Sequence[Row], n_frames: int) -> list[Row]:
    """Choose training frames: in turn from the classes, in a class from its clips, in a clip spread over its time.

    They are originals that screening kept. Where the training side has only copies, copies are used.

    Raises:
        DataError: there is no such frame.
    """
    training = [row for row in rows if row.split == "train" and row.kept]
    pool = [row for row in training if not row.parent] or training
    if not pool:
        raise DataError("data/split.csv: no kept training frame; int8 cannot be calibrated")
    return spread_over_clips(pool, n_frames)


def spread_over_clips(rows: Sequence[Row], n_frames: int) -> list[Row]:
    """Choose frames: in turn from the classes, in a class from its clips, in a clip spread over its time."""
    by_class = ([row for row in rows if row.label == name] for name in class_names(rows))
    return list(itertools.islice(_in_turn(_by_clip(group) for group in by_class), n_frames))


def _by_clip(rows: Sequence[Row]) -> list[Row]:
    ordered = sorted(rows, key=lambda row: (row.group, row.time_seconds or 0.0, row.path))
    clips = [list(clip) for _, clip in itertools.groupby(ordered, key=lambda row: row.group)]
    return list(_in_turn(_spread(clip) for clip in clips))


def _spread(rows: Sequence[Row]) -> list[Row]:
    """Reorder rows so that any first few are spread over all: the first, the middle, the quarters, and so on."""
    n_bits = len(rows).bit_length()
    reversed_bits = (int(f"{step:0{n_bits}b}"[::-1], 2) for step in range(2**n_bits))
    return [rows[index] for index in dict.fromkeys(bits * len(rows) >> n_bits for bits in reversed_bits)]


def _in_turn(groups: Iterable[Sequence[Row]]) -> Iterator[Row]:
    return (row for turn in itertools.zip_longest(*groups) for row in turn if row is not None)


def reference_frames(rows: Sequence[Row], checkpoint: Checkpoint, project: Project, path: Path) -> ReferenceFrames:
    """Preprocess frames with the graph, and compute torch's answers for the same pixels.

    Args:
        rows: the frames.
        checkpoint: the trained network.
        project: whose frames they are.
        path: the file that holds the preprocessed frames, `.npy`.

    Raises:
        DataError: there is no row, one has a class that the checkpoint does not know, or a frame is missing or broken.
    """
    truth = class_numbers(rows, checkpoint, project)
    if not rows:
        raise DataError("data/split.csv: no frame; expected at least one")
    ask_torch, from_torch = torch_of(checkpoint), list[Answers]()

    def ask(frames_nhwc: NDArray[np.uint8]) -> None:
        from_torch.append(ask_torch(frames_nhwc))

    inputs_nchw = _preprocessed(rows, checkpoint, project, path, ask)
    return ReferenceFrames(checkpoint.classes, truth, inputs_nchw, joined(from_torch), rows)


def _preprocessed(
    rows: Sequence[Row],
    checkpoint: Checkpoint,
    project: Project,
    path: Path,
    also: Callable[[NDArray[np.uint8]], None] = lambda _: None,
) -> NDArray[np.float32]:
    """Preprocess frames into a file (n, 3, size, size), and do something also with each batch of them."""
    graph = Graph(preprocess_graph(checkpoint.preprocess, OPSET).SerializeToString())
    size, n_done = checkpoint.preprocess.size, 0
    inputs_nchw = mapped_array(path, (len(rows), 3, size, size), np.dtype(np.float32), named=path)
    for frames_nhwc in frames_of_equal_size(track(rows, f"{rows[0].split} frames", len(rows)), project):
        inputs_nchw[n_done : n_done + len(frames_nhwc)] = graph(frames_nhwc)
        also(frames_nhwc)
        n_done += len(frames_nhwc)
    return inputs_nchw


def frames_of_folds(
    rows: Sequence[Row], checkpoint: Checkpoint, project: Project, path: Path, most: int
) -> ReferenceFrames:
    """Choose frames of all folds, preprocess them, and read what torch's fold heads say about them.

    Args:
        rows: of the split; the frames are chosen as for calibration, but of every side.
        checkpoint: the trained network.
        project: whose frames they are.
        path: the file that holds the preprocessed frames, `.npy`.
        most: frames to choose at most.

    Raises:
        DataError: as `reference_frames`, or a head or a logit of a fold is missing.
    """
    chosen = spread_over_clips([row for row in judged_rows(rows) if row.kept], most)
    answers, folds = answers_of_torch(chosen, checkpoint, project), read_folds(checkpoint, project)
    truth, inputs_nchw = class_numbers(chosen, checkpoint, project), _preprocessed(chosen, checkpoint, project, path)
    return ReferenceFrames(checkpoint.classes, truth, inputs_nchw, answers, chosen, folds)
