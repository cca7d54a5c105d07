"""One epoch after another: the steps of fitting, and the numbers that the curves show."""

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
from pipeline.train.batches import Source, drawn
from pipeline.train.losses import Objective
from pipeline.train.optimizers import build_optimizer, build_schedule
from pipeline.train.params import JointLoss, TrainParams

State = dict[str, Any]

_WAY_OUT = "lower train.lr, or set train.clip_gradient_norm or train.precision: fp32"


@dataclass(frozen=True)
class Part:
    """A batch of this process in a step that may have several."""

    numbers: list[int]  # of images
    share: float  # of the step's mean, times the processes, whose gradients are averaged
    times: float  # that a sum over the batch counts: the processes, or 0 where a batch only keeps step with others


@dataclass(frozen=True)
class Step:
    """One move of the weights."""

    parts: list[Part]  # of this process
    n_images: int  # of all processes


def plan(params: TrainParams, epoch: int, weights: Tensor, n_processes: int, process: int) -> list[Step]:
    """The steps of an epoch, each with this process's parts of it, in an order that hangs on (seed, epoch) alone.

    A step looks at `batch_size` images per process and part, over all processes; the last step at what is left.

    Args:
        params: the section `train`.
        epoch: from 1.
        weights: (n,) what each image weighs in the mean of the loss.
        n_processes: how many fit together.
        process: the number of this one, from 0.
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
    return [_step(step, weights, n_processes, process) for step in steps]


def _step(batches: Sequence[Tensor], weights: Tensor, n_processes: int, process: int) -> Step:
    whole = weights[torch.cat(list(batches))].sum().item()
    parts = []
    for batch in batches:
        mine = batch.tensor_split(n_processes)[process]
        if len(mine):
            share = weights[mine].sum().item() / whole * n_processes
            parts.append(Part(mine.tolist(), share, float(n_processes)))
        else:
            parts.append(Part(batch[:1].tolist(), 0.0, 0.0))
    return Step(parts, sum(map(len, batches)))


def derived_seed(*numbers: int) -> int:
    """A seed of 64 bits for whole numbers below 2**32, unlike that of any other numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


class Totals:
    """Sums over images, kept on the device: reading them would stop a GPU's queue."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(4, dtype=torch.float64, device=device)  # images, loss, right ones, squared errors

    @torch.no_grad()
    def add(self, logits: Tensor, labels: Tensor, loss_sum: Tensor) -> None:
        """Count a batch: logits (batch, classes), labels (batch,), and its part in the sum of losses."""
        probabilities = functional.softmax(logits.detach().float(), dim=1)
        errors = (probabilities - functional.one_hot(labels, logits.shape[1])).square().sum()
        right = (logits.argmax(dim=1) == labels).sum()
        n_images = torch.tensor(len(labels), device=logits.device)
        self.sums += torch.stack([value.detach().double() for value in (n_images, loss_sum, right, errors)])

    def numbers(self, side: str, accelerator: Accelerator) -> dict[str, float]:
        """The means over the images of all processes: `mse` is the sum over classes of squared errors (000, eq. 4)."""
        n_images, loss, right, errors = accelerator.reduce(self.sums, "sum").tolist()
        return {f"{side}/loss": loss / n_images, f"{side}/accuracy": right / n_images, f"{side}/mse": errors / n_images}


class Fit:
    """What is fitted, with its optimisers and schedule; an epoch at a time."""

    def __init__(self, network: Network, objective: Objective, params: TrainParams, accelerator: Accelerator) -> None:
        """Prepare to fit `objective`, which holds `network` or its head, on the accelerator's devices."""
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

    def run_epoch(self, epoch: int, train: Source, watched: Mapping[str, Source], weights: Tensor) -> dict[str, float]:
        """Fit for an epoch; gives its numbers by the names of the curves.

        Args:
            epoch: from 1.
            train: the training images, or their features.
            watched: by side, what is looked at after the epoch, in float32.
            weights: (n,) what each training image weighs in the mean of the loss.

        Raises:
            DataError: the loss is no number, or the last step has spoilt the weights.
            ParamsError: see `_compute`.
        """
        start = time.perf_counter()
        numbers = {"train/lr": float(self._optimizers[0].param_groups[0]["lr"])}
        numbers |= self._fit(epoch, train, weights)
        numbers["train/images_per_second"] = len(train) / (time.perf_counter() - start)
        for side, source in watched.items():
            numbers |= self._watch(side, source, epoch)
        self._refuse_spoilt(epoch, numbers)
        self._schedule.step()
        return numbers

    def _refuse_spoilt(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Refuse what the epoch's last step has made of the weights, where no batch will come to show it."""
        are_numbers = torch.stack([torch.isfinite(parameter).all() for parameter in self._trained]).all()
        watched = [value for name, value in numbers.items() if name.endswith("/loss")]
        if not are_numbers or not all(map(math.isfinite, watched)):
            raise DataError(f"train: after epoch {epoch} a weight or a loss is no number; {_WAY_OUT}")

    def _fit(self, epoch: int, train: Source, weights: Tensor) -> dict[str, float]:
        accelerator = self._accelerator
        steps = plan(self._params, epoch, weights, accelerator.num_processes, accelerator.process_index)
        # Dropout hangs on (seed, epoch, process) alone, so that a resumed epoch needs no saved random state.
        torch.manual_seed(derived_seed(self._params.seed, epoch, 1 + accelerator.process_index))
        batches = drawn(train, [part.numbers for step in steps for part in step.parts], epoch, accelerator.device)
        totals, watch = Totals(accelerator.device), LossWatch(accelerator, epoch)
        self._objective.train()
        for step in steps:
            for part in step.parts:
                inputs, labels = next(batches)
                with contextlib.nullcontext() if part is step.parts[-1] else accelerator.no_sync(self._model):
                    loss, logits = self._compute(inputs, labels, part)
                    accelerator.backward(loss)
                watch.look(loss)
                if part.times:
                    totals.add(logits, labels, loss / part.times * step.n_images)
            self._step()
        watch.check()
        return totals.numbers("train", accelerator)

    def _compute(self, inputs: Tensor, labels: Tensor, part: Part) -> tuple[Tensor, Tensor]:
        """The loss and the logits of a part, with gradients.

        Raises:
            ParamsError: batch norm that learns got one image, and one place of it.
        """
        try:
            found: tuple[Tensor, Tensor] = self._model(_channels_last(inputs), labels, part.share, part.times)
        except ValueError as error:
            if len(labels) > 1:
                raise
            raise ParamsError(f"train.batch_size: found a batch of one image; expected more ({error})") from error
        return found

    def _step(self) -> None:
        """Move the weights once, by the gradients of all parts."""
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
    def _watch(self, side: str, source: Source, epoch: int) -> dict[str, float]:
        """Mean cross entropy, accuracy and MSE over a side's images, in float32."""
        accelerator = self._accelerator
        mine = torch.arange(len(source)).tensor_split(accelerator.num_processes)[accelerator.process_index]
        batches = [batch.tolist() for batch in torch.split(mine, self._params.batch_size) if len(batch)]
        totals = Totals(accelerator.device)
        self._objective.eval()
        for inputs, labels in drawn(source, batches, epoch, accelerator.device):
            logits = self._objective.logits(_channels_last(inputs))
            totals.add(logits, labels, functional.cross_entropy(logits, labels, reduction="sum"))
        return totals.numbers(side, accelerator)

    def state_dict(self) -> State:
        """All that the next epochs hang on."""
        scaler = self._accelerator.scaler
        return {
            "objective": self._objective.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "schedule": self._schedule.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from where `state_dict` was taken."""
        self._objective.load_state_dict(state["objective"])
        for optimizer, of_optimizer in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(of_optimizer)
        self._schedule.load_state_dict(state["schedule"])
        if self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state["scaler"])


class LossWatch:
    """Whether the loss of every batch is a number.

    A lone process on a CPU is stopped at once. Elsewhere the answer is read at the epoch's end: asking after every
    batch would stop a GPU's queue, and a process that leaves alone lets the others wait.
    """

    def __init__(self, accelerator: Accelerator, epoch: int) -> None:
        self._accelerator = accelerator
        self._at_once = accelerator.device.type == "cpu" and accelerator.num_processes == 1
        self._epoch = epoch
        self._losses: list[Tensor] = []

    def look(self, loss: Tensor) -> None:
        """Look at a batch's loss.

        Raises:
            DataError: it is no number.
        """
        self._losses.append(loss.detach())
        if self._at_once and not math.isfinite(loss.item()):
            self._refuse(len(self._losses), loss.item())

    def check(self) -> None:
        """Look at all of them, those of the other processes too.

        Raises:
            DataError: one is no number.
        """
        losses = self._accelerator.reduce(torch.stack(self._losses).float(), "sum").tolist()
        for number, loss in enumerate(losses, start=1):
            if not math.isfinite(loss):
                self._refuse(number, loss)

    def _refuse(self, batch: int, loss: float) -> None:
        raise DataError(f"train: the loss of epoch {self._epoch}, batch {batch} is {loss}; {_WAY_OUT}")


def _channels_last(inputs: Tensor) -> Tensor:
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs
