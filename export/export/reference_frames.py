"""Frames as the network sees them, and what torch says of them: what graphs are calibrated on and chosen by."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from export.graphs.gates import Comparison, Logits
from export.graphs.preprocess_graph import preprocess_graph
from export.graphs.reference import frames_of_equal_size, torch_of
from export.graphs.runner import Graph
from pipeline.base.errors import DataError
from pipeline.base.manifest import Row, class_names
from pipeline.base.progress import track
from pipeline.base.project import Project
from pipeline.network.checkpoint import Checkpoint, class_numbers

OPSET = 18  # of the preprocessing here; its nodes mean the same in every later one


@dataclass(frozen=True)
class Evidence:
    """Some frames, preprocessed by the graph, with torch's answers from the same pixels."""

    classes: Sequence[str]
    truth: NDArray[np.int64]  # (n,) class numbers
    inputs_nchw: NDArray[np.float32]  # (n, 3, size, size); on disk, where more fit than in memory
    torch_logits: Logits  # (n, classes)
    unknown_threshold: float | None = None  # of the checkpoint

    def compare(self, graph_logits: Logits) -> Comparison:
        """A graph's logits (n, classes) beside torch's."""
        return Comparison(self.classes, self.truth, self.torch_logits, graph_logits, self.unknown_threshold)


def calibration_rows(rows: Sequence[Row], n_frames: int) -> list[Row]:
    """Training frames dealt in turn from the classes, in a class from its clips, in a clip spread over its time.

    Originals that screening kept; where a training side has copies only, these.

    Raises:
        DataError: there is none.
    """
    training = [row for row in rows if row.split == "train" and row.kept]
    pool = [row for row in training if not row.parent] or training
    if not pool:
        raise DataError("data/split.csv: no kept training frame; int8 cannot be calibrated")
    by_class = ([row for row in pool if row.label == name] for name in class_names(pool))
    return list(itertools.islice(_dealt(_by_clip(group) for group in by_class), n_frames))


def _by_clip(rows: Sequence[Row]) -> list[Row]:
    ordered = sorted(rows, key=lambda row: (row.group, row.time_seconds or 0.0, row.path))
    clips = [list(clip) for _, clip in itertools.groupby(ordered, key=lambda row: row.group)]
    return list(_dealt(_spread(clip) for clip in clips))


def _spread(rows: Sequence[Row]) -> list[Row]:
    """The same rows, any first few of which are spread over all: the first, the middle, the quarters, and so on."""
    n_bits = len(rows).bit_length()
    reversed_bits = (int(f"{number:0{n_bits}b}"[::-1], 2) for number in range(2**n_bits))
    return [rows[index] for index in dict.fromkeys(number * len(rows) >> n_bits for number in reversed_bits)]


def _dealt(hands: Iterable[Sequence[Row]]) -> Iterator[Row]:
    return (row for turn in itertools.zip_longest(*hands) for row in turn if row is not None)


def preprocessed(rows: Sequence[Row], checkpoint: Checkpoint, project: Project, path: Path) -> NDArray[np.float32]:
    """What the preprocessing graph makes of frames: (n, 3, size, size), in a file."""
    return _gather(rows, checkpoint, project, path, lambda _: None)


def gather(rows: Sequence[Row], checkpoint: Checkpoint, project: Project, path: Path) -> Evidence:
    """Preprocess frames with the graph, into a file, and ask torch about the same pixels.

    Raises:
        DataError: there is no row, one has a class that the checkpoint does not know, or a frame is missing or broken.
    """
    truth = class_numbers(rows, checkpoint, project)
    ask = torch_of(checkpoint)
    torch_logits: list[Logits] = []
    inputs_nchw = _gather(rows, checkpoint, project, path, lambda frames_nhwc: torch_logits.append(ask(frames_nhwc)))
    threshold = checkpoint.unknown_threshold
    return Evidence(checkpoint.classes, truth, inputs_nchw, np.concatenate(torch_logits), threshold)


def _gather(
    rows: Sequence[Row],
    checkpoint: Checkpoint,
    project: Project,
    path: Path,
    look: Callable[[NDArray[np.uint8]], None],
) -> NDArray[np.float32]:
    if not rows:
        raise DataError("data/split.csv: no frame; expected at least one")
    preprocess = Graph(preprocess_graph(checkpoint.preprocess, OPSET).SerializeToString())
    size, done = checkpoint.preprocess.size, 0
    inputs_nchw = open_memmap(path, mode="w+", dtype=np.float32, shape=(len(rows), 3, size, size))
    for frames_nhwc in frames_of_equal_size(track(rows, f"{rows[0].split} frames", len(rows)), project):
        inputs_nchw[done : done + len(frames_nhwc)] = preprocess(frames_nhwc)
        look(frames_nhwc)
        done += len(frames_nhwc)
    return inputs_nchw
