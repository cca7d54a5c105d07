"""Every graph judged on every clip: with the head of each fold in place, on the frames that this head has not seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from scipy import special

from export.graphs.fold_heads import (
    FoldHeads,
    GraphOfFolds,
    answers_of_torch,
    judged_rows,
    positions_by_fold,
    read_folds,
)
from export.graphs.gates import Judgement, LogitComparison, Scores, judge
from export.graphs.params import ParityParams
from export.graphs.reference import frames_of_equal_size
from pipeline.base.errors import DataError
from pipeline.base.manifest import Row
from pipeline.base.progress import track
from pipeline.base.project import Project
from pipeline.network.calibration import UnknownThresholds, fit_thresholds
from pipeline.network.checkpoint import Checkpoint, class_numbers
from pipeline.network.clip_answers import ClipAnswers, FrameAnswers, answer_clips
from runtime.answers import Answers, nothing
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
        """Judge a variant by the gates of its precision. No frame is taken for none of the classes here."""
        scores = (self.torch.scores, route.answers.scores) if self.has_score else (None, None)
        comparison = LogitComparison(self.classes, self.truth, self.torch.logits, route.answers.logits, *scores)
        judgement = judge(comparison, route.variant.precision, params)
        return dataclasses.replace(judgement, reasons=(route.problem,)) if route.problem else judgement

    def clip_answers(self, route: FoldRoute) -> ClipAnswers:
        """The clips as the device answers them with a variant; a fold's thresholds come from the other folds."""
        logits, scores = np.nan_to_num(route.answers.logits), np.nan_to_num(route.answers.scores)
        probabilities = np.zeros(logits.shape)
        thresholds: dict[int | None, Thresholds] = {}
        for fold, positions in positions_by_fold(self.rows):
            calibration = self.folds.calibrations[fold]
            scaled = logits[positions].astype(np.float64) / (calibration.temperature or 1.0)
            probabilities[positions] = special.softmax(scaled, axis=1)
            rate = None if calibration.unknown is None else calibration.unknown.false_alarms
            thresholds[fold] = self._thresholds(scores, fold, rate)
        frames = FrameAnswers(self.rows, scores, probabilities, self.truth)
        return answer_clips(frames, lambda row: thresholds[row.fold], len(thresholds))

    def _thresholds(self, scores: Scores, fold: int, rate: float | None) -> Thresholds:
        others = [position for position, row in enumerate(self.rows) if row.fold != fold and row.kept]
        groups = [self.rows[position].group for position in others]
        fitted: UnknownThresholds | None = fit_thresholds(scores[others], groups, rate)[0]
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
    answers = answers_of_torch(judged, checkpoint, project)
    truth = class_numbers(judged, checkpoint, project)
    has_score = checkpoint.calibration.unknown is not None
    return JudgedFrames(judged, truth, answers, read_folds(checkpoint, project), checkpoint.classes, has_score)


def ask_folds(judged: JudgedFrames, variants: Mapping[str, Variant], project: Project) -> list[FoldRoute]:
    """Ask every variant about every frame. Each frame is decoded once.

    Args:
        judged: the frames.
        variants: by name; their graphs lie in the project.
        project: whose graphs and frames they are.
    """
    graphs = {name: onnx.load(project.onnx / variant.file) for name, variant in variants.items()}
    answers = {name: nothing(*judged.torch.logits.shape) for name in variants}
    problems: dict[str, str] = {}
    opened = {name: _open(graph, judged.folds, problems, name) for name, graph in graphs.items()}
    for fold, positions in track(list(positions_by_fold(judged.rows)), "parity of the folds", len(judged.folds.heads)):
        n_done = 0
        for frames_nhwc in frames_of_equal_size([judged.rows[position] for position in positions], project):
            batch = positions[n_done : n_done + len(frames_nhwc)]
            n_done += len(frames_nhwc)
            for name, graph in opened.items():
                if graph is not None and name not in problems:
                    try:
                        of_batch = graph.answers(fold, frames_nhwc)
                        answers[name].logits[batch], answers[name].scores[batch] = of_batch.logits, of_batch.scores
                    except DataError as error:
                        problems[name] = str(error)
    return [FoldRoute(variant, answers[name], problems.get(name)) for name, variant in variants.items()]


def _open(graph: onnx.ModelProto, folds: FoldHeads, problems: dict[str, str], name: str) -> GraphOfFolds | None:
    """Open a graph for the heads of the folds; note the problem where that cannot be."""
    try:
        return GraphOfFolds(graph, folds)
    except DataError as error:
        problems.setdefault(name, str(error))
        return None
