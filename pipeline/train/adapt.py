"""How a frozen backbone is adapted: `train.adapt` fits the head alone, or the last blocks after it, or tries both.

`tune` fits the head first, and then opens the last blocks at a small rate: with a head that fits already, the blocks
move little (LP-FT, Kumar et al. 2022). `auto` does both without each fold in turn, and counts the clips left out that
each gets right.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pipeline.base.errors import ParamsError
from pipeline.base.manifest import Row
from pipeline.network.clip_answers import ClipAnswers, FrameAnswers, answer_clips
from pipeline.network.heads import Head
from pipeline.network.network import Network
from pipeline.network.params import ModelParams
from pipeline.train.folds import FoldData, Part
from pipeline.train.inputs.batches import logits_and_labels
from pipeline.train.last_blocks import LastBlocks, open_last_blocks
from pipeline.train.params import CosineSchedule, TrainParams
from pipeline.train.precision import keep_in_float32_with_depthwise
from pipeline.train.run import KEY_OF_BLOCKS, Fitted, Inputs, RunContext, fit_all_epochs
from runtime.verdict import Thresholds

RATE_OF_BLOCKS = 0.1  # of train.lr, for the last blocks and the head while the blocks are open

Way = Literal["head", "tune"]
DataOf = Callable[[Network, Sequence[Row], Sequence[Row]], FoldData]  # of a network, learned rows and judged rows


@dataclass(frozen=True)
class Training:
    """What each way would learn from, kept frames and their copies, and what judges both."""

    of_head: Sequence[Row]  # all clips, where folds would judge the head
    of_blocks: Sequence[Row]  # of the training side, since the test side would judge the blocks
    data_of: DataOf  # finds or computes what a network's `embed` gives of rows


@dataclass(frozen=True)
class Choice:
    """What `adapt: auto` found: the clips out of fold that each way gets right, and what finding it took."""

    way: Way
    n_clips: int
    right: dict[Way, int]
    minutes: float

    def to_json(self) -> dict[str, Any]:
        """The values by their names."""
        return {"chosen": self.way, "n_clips": self.n_clips, "right": dict(self.right), "minutes": self.minutes}

    def __str__(self) -> str:
        return (
            f"train.adapt: auto chose {self.way}: of {self.n_clips} training clips, each left out once, the head alone "
            f"gets {self.right['head']} right, with the last blocks open {self.right['tune']}; this took "
            f"{self.minutes:.1f} minutes"
        )


def refuse_unfit_adaptation(params: TrainParams, model: ModelParams) -> None:
    """Refuse to open blocks where the backbone learns anyway, or nothing is kept of it.

    Raises:
        ParamsError: `adapt` does not go with another setting.
    """
    if params.adapt == "head":
        return
    obstacles = (
        (model.freeze != "all", "model.freeze is not all, so the backbone learns from the start"),
        (bool(params.online) and not params.cached_views, "train.cached_views is 0, so nothing is kept of a view"),
        (params.keep != "last", f"train.keep: {params.keep} compares epochs before and after the blocks are opened"),
        (params.patience_epochs is not None, "train.patience_epochs may stop before the blocks are opened"),
    )
    reason = next((words for stands_in_the_way, words in obstacles if stands_in_the_way), None)
    if reason is None and params.adapt == "auto" and params.estimate == "folds":
        reason = "train.estimate: folds cannot judge opened blocks, which auto may choose"
    if reason is None and params.adapt == "auto" and params.refit == "all":
        reason = "train.refit: all goes with folds, which cannot judge opened blocks, and auto may choose these"
    if reason:
        raise ParamsError(f"train.adapt: {params.adapt} does not go with this run: {reason}; set train.adapt: head")


def open_blocks(network: Network) -> LastBlocks:
    """Open the last blocks, in the precision that their gradients want.

    Raises:
        ParamsError: as `open_last_blocks`.
    """
    blocks = open_last_blocks(network)
    if next(network.parameters()).device.type == "cpu":
        keep_in_float32_with_depthwise(blocks.opened.backbone)
    return blocks


def fit_blocks(
    network: Network, inputs: Inputs, params: TrainParams, n_classes: int, run: RunContext, head: Fitted
) -> Fitted:
    """Fit the opened blocks and the head at a small rate that falls to 0, for as many epochs as the head had.

    Args:
        network: the whole network, whose last blocks are open and whose head is fitted.
        inputs: the opened half, and what the frozen half gives of the images.
        params: the section `train`.
        n_classes: how many classes the head tells apart.
        run: the run; the blocks continue from a state of their own.
        head: the fit of the head, whose curves and minutes the blocks go on with.
    """
    of_blocks = replace(run, key=f"{run.key}{KEY_OF_BLOCKS}", started=time.perf_counter(), before=head.history)
    at_small_rate = params.model_copy(
        update={"lr": RATE_OF_BLOCKS * params.lr, "schedule": CosineSchedule(name="cosine"), "warmup_epochs": 0}
    )
    return fit_all_epochs(network, inputs, at_small_rate, n_classes, of_blocks, name="epochs of the last blocks")


def one_after_the_other(head: Fitted, blocks: Fitted) -> Fitted:
    """Join the epochs of the head and those of the blocks; the last one is kept."""
    blocks.best.epoch += len(head.history)
    return Fitted([*head.history, *blocks.history], blocks.best)


def choose_adaptation(
    network: Network, params: TrainParams, training: Training, n_classes: int, run: RunContext
) -> Choice | None:
    """Adapt a copy of the network in both ways without each fold in turn; keep what gets more of its clips right.

    Each way learns from what it would ship with, but the fold. The clips of the training side judge both. The head
    alone is kept where both get the same number.

    Args:
        network: with the frozen backbone, and the head as it starts; it is left as it was.
        params: the section `train`.
        training: the rows of each way, and what a network gives of rows.
        n_classes: how many classes the head tells apart.
        run: the run; each fold continues from a state of its own.

    Returns:
        None where the training side has fewer than two folds.

    Raises:
        ParamsError: as `open_last_blocks`.
    """
    started = time.perf_counter()
    judged = [row for row in training.of_blocks if row.fold is not None and not row.is_copy]
    if len({row.fold for row in judged}) < 2:
        return None
    tried = copy.deepcopy(network)
    features = training.data_of(tried, training.of_head, judged)
    blocks = open_blocks(tried)
    of_blocks = training.data_of(blocks.frozen, training.of_blocks, judged)
    start = copy.deepcopy(tried.state_dict())
    by_head, by_blocks = (np.zeros((len(judged), n_classes), np.float32) for _ in range(2))
    for number in features.numbers:
        of_fold = replace(run, key=f"{run.key}-choice{number}", is_shown=False)
        tried.load_state_dict(start)
        inputs, unseen = _without(number, features, tried.head)
        name = f"head without fold {number + 1} of {len(features.numbers)}"
        head = fit_all_epochs(tried, inputs, params, n_classes, of_fold, name=name)
        by_head[unseen.positions] = _logits(inputs, unseen, params, run)
        inputs, unseen = _without(number, of_blocks, blocks.opened)
        fit_blocks(tried, inputs, params, n_classes, of_fold, head)
        by_blocks[unseen.positions] = _logits(inputs, unseen, params, run)
    truth = features.judged.labels.numpy()
    answers = (_by_clip(judged, logits, truth, len(features.numbers)) for logits in (by_head, by_blocks))
    of_head, of_tuned = answers
    way: Way = "tune" if of_tuned.right > of_head.right else "head"
    right: dict[Way, int] = {"head": of_head.right, "tune": of_tuned.right}
    return Choice(way, of_head.n_clips, right, (time.perf_counter() - started) / 60)


def _without(number: int, data: FoldData, module: Network | Head) -> tuple[Inputs, Part]:
    """Return what a module learns from without a fold, and the frames of the fold."""
    learned = [position for position, row in enumerate(data.learned_rows) if row.fold != number]
    unseen = [position for position, row in enumerate(data.judged_rows) if row.fold == number]
    inputs = Inputs(module, Part(data.learned, learned), data.learned.labels[learned], {})
    return inputs, Part(data.judged, unseen)


def _logits(inputs: Inputs, unseen: Part, params: TrainParams, run: RunContext) -> NDArray[np.float32]:
    return logits_and_labels(inputs.module, unseen, params.batch_size, run.accelerator.device)[0]


def _by_clip(rows: Sequence[Row], logits: NDArray[np.float32], truth: NDArray[np.int64], n_folds: int) -> ClipAnswers:
    """Judge clips as the device does, where nothing is refused."""
    frames = FrameAnswers(rows, logits.max(axis=1), special.softmax(logits, axis=1), truth)
    return answer_clips(frames, lambda _: Thresholds(None, None), n_folds)
