"""Every graph judged on every clip: with the head of each fold in place, on the frames that this head has not seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from scipy import special

from export.graphs.fold_heads import FoldHeads, judged_rows, logits_of_torch, positions_by_fold, read_folds
from export.graphs.gates import Judgement, LogitComparison, Logits, judge
from export.graphs.params import ParityParams
from export.graphs.reference import frames_of_equal_size
from export.graphs.runner import Graph
from pipeline.base.errors import DataError
from pipeline.base.manifest import Row
from pipeline.base.progress import track
from pipeline.base.project import Project
from pipeline.network.calibration import UnknownThresholds, fit_thresholds
from pipeline.network.checkpoint import Checkpoint, class_numbers
from pipeline.network.clip_answers import ClipAnswers, FrameAnswers, answer_clips
from runtime.contract import Variant
from runtime.verdict import Thresholds

OUT_OF_FOLD = "out of fold"  # the route's name


@dataclass(frozen=True)
class FoldRoute:
    """What one variant says about all frames, each answered with the head that has not learned from it."""

    variant: Variant
    logits: Logits  # (n, classes); NaN where the variant gave none
    problem: str | None  # why it gave none


@dataclass(frozen=True)
class JudgedFrames:
    """The frames of all clips, with torch's answers out of fold."""

    rows: Sequence[Row]
    truth: NDArray[np.int64]
    torch_logits: Logits
    folds: FoldHeads
    classes: Sequence[str]

    def judge(self, route: FoldRoute, params: ParityParams) -> Judgement:
        """Judge a variant by the gates of its precision. No frame is taken for none of the classes here."""
        comparison = LogitComparison(self.classes, self.truth, self.torch_logits, route.logits)
        judgement = judge(comparison, route.variant.precision, params)
        return dataclasses.replace(judgement, reasons=(route.problem,)) if route.problem else judgement

    def answers(self, route: FoldRoute) -> ClipAnswers:
        """The clips as the device answers them with a variant; a fold's thresholds come from the other folds."""
        logits = np.nan_to_num(route.logits)
        probabilities = np.zeros(logits.shape)
        thresholds: dict[int | None, Thresholds] = {}
        for fold, positions in positions_by_fold(self.rows):
            calibration = self.folds.calibrations[fold]
            scaled = logits[positions].astype(np.float64) / (calibration.temperature or 1.0)
            probabilities[positions] = special.softmax(scaled, axis=1)
            rate = None if calibration.unknown is None else calibration.unknown.false_alarms
            thresholds[fold] = self._thresholds(logits, fold, rate)
        frames = FrameAnswers(self.rows, logits, probabilities, self.truth)
        return answer_clips(frames, lambda row: thresholds[row.fold], len(thresholds))

    def _thresholds(self, logits: Logits, fold: int, rate: float | None) -> Thresholds:
        others = [position for position, row in enumerate(self.rows) if row.fold != fold and row.kept]
        groups = [self.rows[position].group for position in others]
        fitted: UnknownThresholds | None = fit_thresholds(logits[others], groups, rate)[0]
        return Thresholds(None, None) if fitted is None else Thresholds(fitted.frame, fitted.clip)


def read_judged_frames(rows: Sequence[Row], checkpoint: Checkpoint, project: Project) -> JudgedFrames:
    """Read what torch says out of fold.

    Args:
        rows: of the split.
        checkpoint: judged by folds.
        project: where the heads and the logits lie.

    Raises:
        DataError: a head or a logit is missing, or a frame has a class that the checkpoint does not know.
    """
    judged = judged_rows(rows)
    logits = logits_of_torch(judged, checkpoint, project)
    truth = class_numbers(judged, checkpoint, project)
    return JudgedFrames(judged, truth, logits, read_folds(checkpoint, project), checkpoint.classes)


def ask_folds(judged: JudgedFrames, variants: Mapping[str, Variant], project: Project) -> list[FoldRoute]:
    """Ask every variant about every frame. Each frame is decoded once.

    Args:
        judged: the frames.
        variants: by name; their graphs lie in the project.
        project: whose graphs and frames they are.
    """
    graphs = {name: onnx.load(project.onnx / variant.file) for name, variant in variants.items()}
    logits = {name: np.full(judged.torch_logits.shape, np.nan, np.float32) for name in variants}
    problems: dict[str, str] = {}
    for fold, positions in track(list(positions_by_fold(judged.rows)), "parity of the folds", len(judged.folds.heads)):
        opened = {name: _open(graph, judged.folds, fold, problems, name) for name, graph in graphs.items()}
        n_done = 0
        for frames_nhwc in frames_of_equal_size([judged.rows[position] for position in positions], project):
            batch = positions[n_done : n_done + len(frames_nhwc)]
            n_done += len(frames_nhwc)
            for name, graph in opened.items():
                if graph is not None and name not in problems:
                    try:
                        logits[name][batch] = graph(frames_nhwc)
                    except DataError as error:
                        problems[name] = str(error)
    return [FoldRoute(variant, logits[name], problems.get(name)) for name, variant in variants.items()]


def _open(graph: onnx.ModelProto, folds: FoldHeads, fold: int, problems: dict[str, str], name: str) -> Graph | None:
    """Open a graph with the head of a fold; note the problem where that cannot be."""
    try:
        return Graph(folds.graph_of(fold, graph).SerializeToString())
    except DataError as error:
        problems.setdefault(name, str(error))
        return None
