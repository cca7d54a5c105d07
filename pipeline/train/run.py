"""One run over all epochs: what is fitted on what, from where a killed run continues, and the epoch that is kept."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from pipeline.base.errors import DataError, one_line
from pipeline.base.progress import tell, track
from pipeline.base.project import Project
from pipeline.base.storage.making_time import MakingTime, RecordName
from pipeline.network.heads import Head
from pipeline.network.network import Network
from pipeline.train.best_epoch import BestEpoch, Metrics
from pipeline.train.fit import Fit
from pipeline.train.inputs.batches import Source
from pipeline.train.losses import build_objective, class_weights
from pipeline.train.params import TrainParams
from pipeline.train.resume import read_state, write_state
from pipeline.train.trackers import Trackers, run_name

KEY_OF_BLOCKS = "-blocks"  # behind the key of a run: of its last blocks, which go on from its head


@dataclass(frozen=True)
class Inputs:
    """What is fitted on what: the network on images, or its head alone on features of the frozen backbone."""

    module: Network | Head
    train: Source
    labels: Tensor  # (n,) class numbers of the training images
    watched: Mapping[str, Source]  # by side, the images that are measured after each epoch


@dataclass(frozen=True)
class Fitted:
    """The result of all epochs: their metrics, and the kept epoch, whose weights the network has."""

    history: list[Metrics]
    best: BestEpoch


@dataclass(frozen=True)
class RunContext:
    """Where and since when a run fits: its devices and processes, its project, and its key for resuming."""

    accelerator: Accelerator
    project: Project
    key: str  # see `resume.run_key`
    started: float  # seconds of the performance counter, moved by the time that was spent on cached records
    is_shown: bool = True  # whether trackers show its curves
    cached: Mapping[RecordName, float] = field(default_factory=dict)  # seconds of making each frame or feature
    before: Sequence[Metrics] = ()  # the epochs of the part that was fitted first: curves and minutes go on from them

    @property
    def caching_minutes(self) -> float:
        """What decoding frames and computing features took, in this run or an earlier one."""
        return math.fsum(self.cached.values()) / 60  # in whatever order the records were found

    def after_caching(self, times: MakingTime) -> RunContext:
        """The run after its frames or features were made or found: their time counts as if they had been made now."""
        return replace(self, started=self.started + times.spent, cached={**self.cached, **times.made})


def fit_all_epochs(
    network: Network,
    inputs: Inputs,
    params: TrainParams,
    n_classes: int,
    run: RunContext,
    *,
    name: str = "epochs",
) -> Fitted:
    """Fit for all epochs that are left; the network ends with the weights of the kept epoch.

    Args:
        network: the whole network.
        inputs: what of it is fitted, and on what.
        params: the section `train`.
        n_classes: how many classes the head tells apart.
        run: where the run fits; its key names the state that a killed run leaves.
        name: of the progress.
    """
    images_per_class = torch.bincount(inputs.labels, minlength=n_classes).tolist()
    objective = build_objective(inputs.module, params.loss, images_per_class, params.seed)
    weights = class_weights(params.loss, images_per_class)[inputs.labels]
    fit, best, history = Fit(network, objective, params, run.accelerator), BestEpoch(params), list[Metrics]()
    _resume(fit, best, history, run)
    done = [*run.before, *history]
    minutes_before = done[-1]["train/minutes"] - done[-1]["train/caching_minutes"] if done else 0.0
    is_on = run.accelerator.is_main_process and run.is_shown
    shown_as = run_name(run.key.removesuffix(KEY_OF_BLOCKS))
    with Trackers(params, run.project, shown_as, done, is_on=is_on) as trackers:
        for epoch in track(range(len(history) + 1, params.epochs + 1), name, params.epochs - len(history)):
            if best.should_stop:
                break
            metrics = fit.run_epoch(epoch, inputs.train, inputs.watched, weights)
            fitting_minutes = (time.perf_counter() - run.started) / 60
            metrics["train/minutes"] = minutes_before + fitting_minutes + run.caching_minutes
            metrics["train/caching_minutes"] = run.caching_minutes
            best.consider(epoch, metrics, fit.module)
            history.append(metrics)
            trackers.add(len(run.before) + epoch, metrics)
            if run.accelerator.is_main_process:
                state = {"fit": fit.state_dict(), "best": best.state_dict(), "history": history}
                write_state(run.project.resume_state(run.key), state)
    best.restore(fit.module)
    return Fitted(history, best)


def _resume(fit: Fit, best: BestEpoch, history: list[Metrics], run: RunContext) -> None:
    """Continue where a run of the same key stopped. The first process reads the state and sends it to the others."""
    state: list[Any] = [read_state(run.project.resume_state(run.key)) if run.accelerator.is_main_process else None]
    broadcast_object_list(state)
    if state[0] is None:
        return
    try:
        fit.load_state_dict(state[0]["fit"])
        best.load_state_dict(state[0]["best"])
        history.extend({name: float(value) for name, value in metrics.items()} for metrics in state[0]["history"])
        if best.epoch:  # one object again: folds add their numbers to the history after the last epoch
            best.metrics = history[best.epoch - 1]
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        path, reason = run.project.resume_state(run.key), one_line(error)
        raise DataError(f"{path}: found a state that is not of this run ({reason}); delete it") from error
    if run.accelerator.is_main_process:
        tell(f"going on after epoch {len(history)}")
