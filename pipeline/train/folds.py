"""Folds: a head and a score for each, fitted on the clips of the others, and what they say about its own clips."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.base.manifest import Row
from pipeline.network.calibration import FEWEST_CLIPS, Calibration, calibrate
from pipeline.network.fit_known_score import fit_known_score, spread_over_classes
from pipeline.network.known_score import KnownScore, answers_of_blocks
from pipeline.network.network import Network
from pipeline.network.out_of_fold import FoldHead
from pipeline.train.best_epoch import Metrics
from pipeline.train.inputs.batches import Source, logits_and_labels
from pipeline.train.inputs.feature_cache import CachedFeatures
from pipeline.train.params import TrainParams
from pipeline.train.run import Fitted, Inputs, RunContext, fit_all_epochs
from runtime.answers import Answers

_BLOCK = 10_000  # frames whose features are in memory at once


@dataclass(frozen=True)
class Part:
    """Some images of a source, as a source."""

    source: Source
    positions: Sequence[int]  # in the source

    def __len__(self) -> int:
        return len(self.positions)

    def batch(self, indices: Sequence[int], epoch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the inputs and labels of some images, as the whole source does.

        Args:
            indices: positions of the images in the part, from 0.
            epoch: as for the source.
            device: where both tensors are put.
        """
        return self.source.batch([self.positions[index] for index in indices], epoch, device)


@dataclass(frozen=True)
class FoldData:
    """The features that fold heads learn from, and those that they are judged on."""

    learned_rows: Sequence[Row]  # kept frames and their copies
    learned: CachedFeatures  # of `learned_rows`
    judged_rows: Sequence[Row]  # frames, those that screening dropped too, without copies
    judged: CachedFeatures  # of `judged_rows`: exactly what evaluation computes

    @property
    def numbers(self) -> list[int]:
        """The numbers of the folds."""
        return sorted({row.fold for row in self.judged_rows if row.fold is not None})


@dataclass(frozen=True)
class OutOfFold:
    """What the fold heads give: themselves, their answers, the calibration from all of them, and their curves."""

    heads: list[FoldHead]
    answers: Answers  # for `FoldData.judged_rows`
    calibration: Calibration  # of the shipped head
    curves: list[Metrics]  # by epoch: mean over the frames, each measured by the head that has not seen it


def fit_folds(network: Network, data: FoldData, params: TrainParams, n_classes: int, run: RunContext) -> OutOfFold:
    """Fit a head for each fold; the network's own head ends as it began.

    Args:
        network: with the frozen backbone, and the head as it starts.
        data: the features.
        params: the section `train`.
        n_classes: how many classes the head tells apart.
        run: the run; each fold continues from a state of its own.
    """
    start = copy.deepcopy(network.head.state_dict())
    n_judged = len(data.judged_rows)
    answers = Answers(np.zeros((n_judged, n_classes), np.float32), np.zeros(n_judged, np.float32))
    scores = [_score_without(data, number, params) for number in data.numbers]
    states, histories = list[dict[str, Tensor]](), list[tuple[int, Fitted]]()
    for number, score in zip(data.numbers, scores, strict=True):
        network.head.load_state_dict(start)
        inputs = _inputs_of_fold(network, data, number)
        of_fold = replace(run, key=f"{run.key}-fold{number}", is_shown=False)
        name = f"epochs of fold {number + 1} of {len(data.numbers)}"
        fitted = fit_all_epochs(network, inputs, params, n_classes, of_fold, name=name)
        judged = [position for position, row in enumerate(data.judged_rows) if row.fold == number]
        unseen = Part(data.judged, judged)
        logits, _ = logits_and_labels(network.head, unseen, params.batch_size, run.accelerator.device)
        of_fold_answers = _answers(logits, unseen, data.judged, score)
        answers.logits[judged], answers.scores[judged] = of_fold_answers.logits, of_fold_answers.scores
        states.append({name: value.detach().cpu().clone() for name, value in network.head.state_dict().items()})
        histories.append((len(inputs.watched["val"]), fitted))
    network.head.load_state_dict(start)
    calibrations = list(_calibrations(data, answers, params))
    heads = [FoldHead(*parts) for parts in zip(states, calibrations[1:], scores, strict=True)]
    return OutOfFold(heads, answers, calibrations[0], list(_mean_curves(histories)))


def _inputs_of_fold(network: Network, data: FoldData, number: int) -> Inputs:
    learned = [position for position, row in enumerate(data.learned_rows) if row.fold != number]
    watched = [position for position, row in enumerate(data.judged_rows) if row.fold == number and row.kept]
    labels = data.learned.labels[learned]
    return Inputs(network.head, Part(data.learned, learned), labels, {"val": Part(data.judged, watched)})


def _answers(logits: NDArray[np.float32], unseen: Part, source: CachedFeatures, score: KnownScore | None) -> Answers:
    """Return the answers for a part of a source."""
    starts = range(0, len(unseen), _BLOCK)
    blocks = (source.first_views(unseen.positions[start : start + _BLOCK]) for start in starts)
    return answers_of_blocks(logits, blocks, score)


def _score_without(data: FoldData, number: int, params: TrainParams) -> KnownScore | None:
    """Fit the known score of a fold to the kept frames of all other folds."""
    learned = [position for position, row in enumerate(data.judged_rows) if row.kept and row.fold != number]
    return fit_score(data.judged, learned, params)


def fit_score(source: CachedFeatures, positions: Sequence[int], params: TrainParams) -> KnownScore | None:
    """Fit the known score to some images; None where nothing is to be refused, or there is no image.

    Args:
        source: the features of the images, of which the first view is used.
        positions: of the images in the source.
        params: the section `train`.
    """
    if params.unknown_false_alarms is None or not positions:
        return None
    labels = source.labels[torch.tensor(positions)].numpy()
    fitted = spread_over_classes(labels)
    return fit_known_score(source.first_views([positions[i] for i in fitted.tolist()]), labels[fitted])


def _calibrations(data: FoldData, answers: Answers, params: TrainParams) -> Iterator[Calibration]:
    """Yield the calibration from all kept frames, then for each fold that from the other folds' frames.

    Either all have thresholds or none has, so that the folds judge a device that refuses like one.
    """
    whole = _calibration_without(None, data, answers, params.unknown_false_alarms)
    yield whole
    false_alarms = None if whole.unknown is None else params.unknown_false_alarms
    for fold in data.numbers:
        of_fold = _calibration_without(fold, data, answers, false_alarms)
        if whole.unknown is None:
            of_fold = replace(of_fold, unknown_reason=whole.unknown_reason)
        yield of_fold


def _calibration_without(fold: int | None, data: FoldData, answers: Answers, false_alarms: float | None) -> Calibration:
    """Calibrate on the kept frames of all folds but one; None leaves out none."""
    chosen = np.array([row.kept and row.fold != fold for row in data.judged_rows])
    groups = [row.group for row, is_chosen in zip(data.judged_rows, chosen, strict=True) if is_chosen]
    truth = data.judged.labels.numpy()[chosen]
    fewest_clips = FEWEST_CLIPS if fold is None else 1  # where the device refuses, its judge has to refuse as well
    return calibrate(answers[chosen], truth, groups, false_alarms, fewest_clips)


def _mean_curves(histories: Sequence[tuple[int, Fitted]]) -> Iterator[Metrics]:
    """Yield for each epoch the means over the folds of what they measured on the frames left out."""
    n_frames = sum(n for n, _ in histories)
    for of_epoch in zip(*(fitted.history for _, fitted in histories), strict=True):
        sums: dict[str, float] = defaultdict(float)
        for (n, _), metrics in zip(histories, of_epoch, strict=True):
            for name, value in metrics.items():
                if name.startswith("val/"):
                    sums[name] += n / n_frames * value
        yield dict(sums)
