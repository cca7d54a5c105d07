"""Every graph judged on every clip: with the head of each fold in place, on the frames that this head has not seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from export.graphs.fold_heads import (
    FoldHeads,
    GraphOfFolds,
    answers_of_torch,
    judged_rows,
    positions_by_fold,
    read_folds,
)
from export.graphs.gates import Judgement, LogitComparison, judge
from export.graphs.params import ParityParams
from export.graphs.reference import frames_of_equal_size
from export.graphs.runner import Graph
from export.graphs.split_graph import SplitGraph
from export.graphs.thresholds import thresholds_of_graph
from pipeline.base.errors import DataError
from pipeline.base.manifest import Row
from pipeline.base.progress import track
from pipeline.base.project import Project
from pipeline.network.calibration import UnknownThresholds
from pipeline.network.checkpoint import Checkpoint, class_numbers
from pipeline.network.clip_answers import ClipAnswers, FrameAnswers, answer_clips
from runtime.answers import Answers, nothing, probabilities_of
from runtime.contract import Variant
from runtime.verdict import Thresholds

OUT_OF_FOLD = "out of fold"  # the route's name


@dataclass(frozen=True)
class FoldRoute:
    """What one variant says about all frames, each answered with the head that has not learned from it."""

    variant: Variant
    answers: Answers  # NaN where the variant gave none
    problem: str | None  # why it gave none


@dataclass(frozen=True)
class JudgedFrames:
    """The frames of all clips, with torch's answers out of fold."""

    rows: Sequence[Row]
    truth: NDArray[np.int64]
    torch: Answers
    folds: FoldHeads
    classes: Sequence[str]
    has_score: bool  # whether the graphs give a known score

    def judge(self, route: FoldRoute, params: ParityParams) -> Judgement:
        """Judge a variant by the gates of its precision."""
        of_torch = [calibration.unknown for calibration in self.folds.calibrations]
        comparison = LogitComparison(
            self.classes,
            self.truth,
            self.torch.logits,
            route.answers.logits,
            torch_scores=self.torch.scores if self.has_score else None,
            graph_scores=route.answers.scores if self.has_score else None,
            unknown_threshold=self._by_frame(of_torch),
            unknown_threshold_of_graph=self._by_frame(self._thresholds_of(route)),
        )
        judgement = judge(comparison, route.variant.precision, params)
        return dataclasses.replace(judgement, reasons=(route.problem,)) if route.problem else judgement

    def clip_answers(self, route: FoldRoute) -> ClipAnswers:
        """The clips as the device answers them with a variant; a fold's thresholds come from the other folds."""
        logits, scores = np.nan_to_num(route.answers.logits), np.nan_to_num(route.answers.scores)
        probabilities = np.zeros(logits.shape)
        for fold, positions in positions_by_fold(self.rows):
            temperature = self.folds.calibrations[fold].temperature
            probabilities[positions] = probabilities_of(logits[positions], temperature)
        thresholds: dict[int | None, Thresholds] = {
            fold: Thresholds(None, None) if unknown is None else Thresholds(unknown.frame, unknown.clip)
            for fold, unknown in enumerate(self._thresholds_of(route))
        }
        frames = FrameAnswers(self.rows, scores, probabilities, self.truth)
        return answer_clips(frames, lambda row: thresholds[row.fold], len({row.fold for row in self.rows}))

    def _thresholds_of(self, route: FoldRoute) -> list[UnknownThresholds | None]:
        """The thresholds of a graph, by fold, each turned by what torch and graph say about the other folds."""
        scores = np.nan_to_num(route.answers.scores)
        thresholds = list[UnknownThresholds | None]()
        for fold, calibration in enumerate(self.folds.calibrations):
            others = [position for position, row in enumerate(self.rows) if row.fold != fold and row.kept]
            unknown = calibration.unknown
            thresholds.append(unknown and thresholds_of_graph(unknown, self.torch.scores[others], scores[others]))
        return thresholds

    def _by_frame(self, thresholds: Sequence[UnknownThresholds | None]) -> NDArray[np.float64]:
        """The frame threshold of each frame's fold (n,); below none lies no score."""
        by_fold: dict[int | None, float] = {
            fold: -np.inf if unknown is None else unknown.frame for fold, unknown in enumerate(thresholds)
        }
        return np.array([by_fold[row.fold] for row in self.rows])


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
    answers = answers_of_torch(judged, checkpoint, project)
    truth = class_numbers(judged, checkpoint, project)
    has_score = checkpoint.calibration.unknown is not None
    return JudgedFrames(judged, truth, answers, read_folds(checkpoint, project), checkpoint.classes, has_score)


def ask_folds(judged: JudgedFrames, variants: Mapping[str, Variant], project: Project) -> list[FoldRoute]:
    """Ask every variant about every frame. Each frame is decoded and preprocessed once.

    Args:
        judged: the frames.
        variants: by name; their graphs lie in the project. All begin with the same preprocessing.
        project: whose graphs and frames they are.

    Raises:
        DataError: onnxruntime cannot preprocess a frame.
    """
    graphs = [SplitGraph.of(onnx.load(project.onnx / variant.file)) for variant in variants.values()]
    front = graphs[0].preprocess.SerializeToString(deterministic=True)
    asked = [_Asked(variant, nothing(*judged.torch.logits.shape)) for variant in variants.values()]
    for of_variant, graph in zip(asked, graphs, strict=True):
        of_variant.open(graph, front, judged.folds)
    preprocess = Graph(front)
    for fold, positions in track(list(positions_by_fold(judged.rows)), "parity of the folds", len(judged.folds.heads)):
        n_done = 0
        for frames_nhwc in frames_of_equal_size([judged.rows[position] for position in positions], project):
            inputs_nchw = preprocess(frames_nhwc)
            for of_variant in asked:
                of_variant.ask(fold, positions[n_done : n_done + len(frames_nhwc)], inputs_nchw)
            n_done += len(frames_nhwc)
    return [FoldRoute(of_variant.variant, of_variant.answers, of_variant.problem) for of_variant in asked]


@dataclass
class _Asked:
    """A variant while it is asked."""

    variant: Variant
    answers: Answers
    core: GraphOfFolds | None = None
    problem: str | None = None

    def open(self, graph: SplitGraph, front: bytes, folds: FoldHeads) -> None:
        """Open the core for the heads of the folds; note the problem where that cannot be."""
        if graph.preprocess.SerializeToString(deterministic=True) != front:
            self.problem = "its preprocessing is not that of the other variants"
            return
        try:
            self.core = GraphOfFolds(graph.core, folds)
        except DataError as error:
            self.problem = str(error)

    def ask(self, fold: int, positions: list[int], inputs_nchw: NDArray[np.float32]) -> None:
        """Ask about some frames of a fold; after a problem nothing is asked any more."""
        if self.core is None or self.problem:
            return
        try:
            found = self.core.answers(fold, inputs_nchw)
        except DataError as error:
            self.problem = str(error)
            return
        self.answers.logits[positions], self.answers.scores[positions] = found.logits, found.scores
