"""One epoch after another: the steps of fitting, and the metrics that the curves show."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from pipeline.base.errors import DataError, ParamsError
from pipeline.network.network import Network
from pipeline.train.best_epoch import Metrics
from pipeline.train.inputs.batches import Source, prefetch
from pipeline.train.losses import Objective
from pipeline.train.optimizers import build_optimizer, build_schedule
from pipeline.train.params import JointLoss, TrainParams

State = dict[str, Any]

_ADVICE = "lower train.lr, or set train.clip_gradient_norm or train.precision: fp32"


class Fit:
    """What is fitted, with its optimisers and its schedule; it is fitted an epoch at a time."""

    def __init__(self, network: Network, objective: Objective, params: TrainParams, accelerator: Accelerator) -> None:
        """Prepare the fit.

        Args:
            network: the whole network; those of its parameters that require a gradient are fitted.
            objective: holds `network` or its head.
            params: the section `train`.
            accelerator: devices, processes and precision.
        """
        self._params = params
        self._accelerator = accelerator
        self._objective = objective.to(accelerator.device)
        trained = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
        self._trained = [parameter for _, parameter in trained]
        self._optimizers: list[Optimizer] = [build_optimizer(params, trained)]
        self._schedule = build_schedule(params, self._optimizers[0])
        if objective.centres is not None and isinstance(params.loss, JointLoss):
            self._optimizers.append(torch.optim.SGD(objective.centres.parameters(), params.loss.centre_lr))
        self._model: nn.Module = accelerator.prepare(objective)

    @property
    def module(self) -> nn.Module:
        """What is fitted, without the loss and its centres."""
        return self._objective.module

    def run_epoch(self, epoch: int, train: Source, watched: Mapping[str, Source], weights: Tensor) -> Metrics:
        """Fit for an epoch; returns its metrics by the names of the curves.

        Args:
            epoch: from 1.
            train: the training images, or their features.
            watched: by side, the images that are measured after the epoch, in float32.
            weights: (n,) the weight of each training image in the mean of the loss.

        Raises:
            DataError: the loss is not finite, or the last step has made a weight that is not.
            ParamsError: batch norm that learns received a batch of one image.
        """
        start = time.perf_counter()
        metrics = {"train/lr": float(self._optimizers[0].param_groups[0]["lr"])}
        metrics |= self._fit_epoch(epoch, train, weights)
        metrics["train/images_per_second"] = len(train) / (time.perf_counter() - start)
        for side, source in watched.items():
            metrics |= self._measure(side, source, epoch)
        self._refuse_not_finite(epoch, metrics)
        self._schedule.step()
        return metrics

    def _fit_epoch(self, epoch: int, train: Source, weights: Tensor) -> Metrics:
        accelerator = self._accelerator
        steps = plan_steps(self._params, epoch, weights, accelerator.num_processes, accelerator.process_index)
        # (seed, epoch, process) alone decides about dropout, so that a resumed epoch needs no saved random state.
        torch.manual_seed(derived_seed(self._params.seed, epoch, 1 + accelerator.process_index))
        indices = [micro_batch.indices for step in steps for micro_batch in step.micro_batches]
        batches = prefetch(train, indices, epoch, accelerator.device)
        sums, watch = MetricSums(accelerator.device), LossWatch(accelerator, epoch)
        self._objective.train()
        for step in steps:
            for micro_batch in step.micro_batches:
                inputs, labels = next(batches)
                is_last = micro_batch is step.micro_batches[-1]
                with contextlib.nullcontext() if is_last else accelerator.no_sync(self._model):
                    loss, logits = self._compute(inputs, labels, micro_batch)
                    accelerator.backward(loss)
                watch.record(loss)
                if micro_batch.sum_factor:
                    sums.add(logits, labels, loss / micro_batch.sum_factor * step.n_images)
            self._update_weights()
        watch.check_all()
        return sums.means("train", accelerator)

    def _compute(self, inputs: Tensor, labels: Tensor, micro_batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """Return the loss and the logits of a micro-batch, with gradients.

        Raises:
            ParamsError: batch norm that learns received one image, and one position of it.
        """
        try:
            loss_and_logits: tuple[Tensor, Tensor] = self._model(
                _channels_last(inputs), labels, micro_batch.share, micro_batch.sum_factor
            )
        except ValueError as error:
            if len(labels) > 1:
                raise
            raise ParamsError(f"train.batch_size: found a batch of one image; expected more ({error})") from error
        return loss_and_logits

    def _update_weights(self) -> None:
        """Move the weights once, by the gradients of all micro-batches."""
        # Accelerate would update the scaler after each optimiser, and unscale the second by another scale.
        scaler = self._accelerator.scaler
        if scaler is not None:
            for optimizer in self._optimizers:
                scaler.unscale_(optimizer)
        if self._params.clip_gradient_norm is not None:
            nn.utils.clip_grad_norm_(self._trained, self._params.clip_gradient_norm)
        for optimizer in self._optimizers:
            if scaler is None:
                optimizer.step()
            else:
                scaler.step(optimizer)
            optimizer.zero_grad()
        if scaler is not None:
            scaler.update()

    @torch.no_grad()
    def _measure(self, side: str, source: Source, epoch: int) -> Metrics:
        """Return the mean cross entropy, accuracy and MSE over a side's images, in float32."""
        accelerator = self._accelerator
        mine = torch.arange(len(source)).tensor_split(accelerator.num_processes)[accelerator.process_index]
        batches = [batch.tolist() for batch in torch.split(mine, self._params.batch_size) if len(batch)]
        sums = MetricSums(accelerator.device)
        self._objective.eval()
        for inputs, labels in prefetch(source, batches, epoch, accelerator.device):
            logits = self._objective.logits(_channels_last(inputs))
            sums.add(logits, labels, functional.cross_entropy(logits, labels, reduction="sum"))
        return sums.means(side, accelerator)

    def _refuse_not_finite(self, epoch: int, metrics: Metrics) -> None:
        """Refuse weights that the epoch's last step has spoilt, since no further batch would show them."""
        weights_are_finite = torch.stack([torch.isfinite(parameter).all() for parameter in self._trained]).all()
        losses = [value for name, value in metrics.items() if name.endswith("/loss")]
        if not weights_are_finite or not all(map(math.isfinite, losses)):
            raise DataError(f"train: after epoch {epoch} a weight or a loss is not a finite number; {_ADVICE}")

    def state_dict(self) -> State:
        """Return everything that the next epochs depend on."""
        scaler = self._accelerator.scaler
        return {
            "objective": self._objective.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "schedule": self._schedule.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go back to the state that `state_dict` returned."""
        self._objective.load_state_dict(state["objective"])
        for optimizer, of_optimizer in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(of_optimizer)
        self._schedule.load_state_dict(state["schedule"])
        if self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state["scaler"])


@dataclass(frozen=True)
class MicroBatch:
    """Images of this process that pass through the network together; a step may have several micro-batches."""

    indices: list[int]  # of the images
    share: float  # of the step's mean, times the number of processes, whose gradients are averaged
    sum_factor: float  # of a sum over the batch: the number of processes, or 0 where the batch only fills a turn


@dataclass(frozen=True)
class Step:
    """One update of the weights."""

    micro_batches: list[MicroBatch]  # of this process
    n_images: int  # of all processes


def plan_steps(params: TrainParams, epoch: int, weights: Tensor, n_processes: int, process: int) -> list[Step]:
    """Plan the steps of an epoch, each with the micro-batches of this process; (seed, epoch) decides the order.

    A micro-batch holds `batch_size` images of each process. The last step holds what is left.

    Args:
        params: the section `train`.
        epoch: from 1.
        weights: (n,) the weight of each image in the mean of the loss.
        n_processes: how many processes fit together.
        process: the index of this process, from 0.
    """
    generator = torch.Generator().manual_seed(derived_seed(params.seed, epoch, 0))
    order = torch.randperm(len(weights), generator=generator)
    batches = list(torch.split(order, params.batch_size * n_processes))
    # Batch norm cannot learn from one image: so few at the end join the batch before.
    if len(batches) > 1 and len(batches[-1]) < 2 * n_processes:
        batches[-2:] = [torch.cat(batches[-2:])]
    steps = [
        batches[start : start + params.accumulate_batches]
        for start in range(0, len(batches), params.accumulate_batches)
    ]
    return [_plan_step(step, weights, n_processes, process) for step in steps]


def _plan_step(batches: Sequence[Tensor], weights: Tensor, n_processes: int, process: int) -> Step:
    whole = weights[torch.cat(list(batches))].sum().item()
    micro_batches = []
    for batch in batches:
        mine = batch.tensor_split(n_processes)[process]
        if len(mine):
            share = weights[mine].sum().item() / whole * n_processes
            micro_batches.append(MicroBatch(mine.tolist(), share, float(n_processes)))
        else:
            micro_batches.append(MicroBatch(batch[:1].tolist(), 0.0, 0.0))
    return Step(micro_batches, sum(map(len, batches)))


def derived_seed(*parts: int) -> int:
    """Return a seed of 64 bits for whole numbers below 2**32; other numbers give another seed."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])


class MetricSums:
    """Sums over images, kept on the device: reading them would stop a GPU's queue."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(4, dtype=torch.float64, device=device)  # images, loss, right ones, squared errors

    @torch.no_grad()
    def add(self, logits: Tensor, labels: Tensor, loss_sum: Tensor) -> None:
        """Add a batch.

        Args:
            logits: (batch, classes).
            labels: (batch,) class numbers.
            loss_sum: scalar, the batch's part of the sum of losses.
        """
        probabilities = functional.softmax(logits.detach().float(), dim=1)
        errors = (probabilities - functional.one_hot(labels, logits.shape[1])).square().sum()
        right = (logits.argmax(dim=1) == labels).sum()
        n_images = torch.tensor(len(labels), device=logits.device)
        self.sums += torch.stack([value.detach().double() for value in (n_images, loss_sum, right, errors)])

    def means(self, side: str, accelerator: Accelerator) -> Metrics:
        """Return the means over the images of all processes; `mse` sums squared errors over classes (000, eq. 4)."""
        n_images, loss, right, errors = accelerator.reduce(self.sums, "sum").tolist()
        return {f"{side}/loss": loss / n_images, f"{side}/accuracy": right / n_images, f"{side}/mse": errors / n_images}


class LossWatch:
    """Refuses a loss that is not finite.

    A single process on a CPU stops at once. Elsewhere the losses are read at the epoch's end: reading them after every
    batch would stop a GPU's queue, and a process that stops alone would leave the others waiting.
    """

    def __init__(self, accelerator: Accelerator, epoch: int) -> None:
        self._accelerator = accelerator
        self._stops_at_once = accelerator.device.type == "cpu" and accelerator.num_processes == 1
        self._epoch = epoch
        self._losses: list[Tensor] = []

    def record(self, loss: Tensor) -> None:
        """Record the loss of a batch.

        Raises:
            DataError: the loss is not finite.
        """
        self._losses.append(loss.detach())
        if self._stops_at_once and not math.isfinite(loss.item()):
            self._refuse(len(self._losses), loss.item())

    def check_all(self) -> None:
        """Check all recorded losses, those of the other processes too.

        Raises:
            DataError: a loss is not finite.
        """
        losses = self._accelerator.reduce(torch.stack(self._losses).float(), "sum").tolist()
        for batch, loss in enumerate(losses, start=1):
            if not math.isfinite(loss):
                self._refuse(batch, loss)

    def _refuse(self, batch: int, loss: float) -> None:
        raise DataError(f"train: the loss of epoch {self._epoch}, batch {batch} is {loss}; {_ADVICE}")


def _channels_last(inputs: Tensor) -> Tensor:
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs
