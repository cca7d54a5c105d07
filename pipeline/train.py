"""Fit the network on the training rows; the curves go to `reports/train/`, the result to `models/checkpoint.pt`."""

from __future__ import annotations

import math
import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from dvclive.live import Live
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from pipeline import manifest
from pipeline.data import Features, Frames, batches
from pipeline.errors import DataError, ParamsError
from pipeline.files import Project, replacing_folder, sha256_of
from pipeline.fitting import BinaryCrossEntropyLoss, FocalLoss, TrainParams
from pipeline.leakage import read_split_without_leaks
from pipeline.losses import Loss, build_loss
from pipeline.modelling import ImageParams, ModelParams
from pipeline.network import Checkpoint, Network, build_network, build_preprocess
from pipeline.optim import build_optimizer, build_schedule
from pipeline.progress import track

Batches = DataLoader[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class TrainReport:
    """What was fitted, and how the epoch went that was kept."""

    n_images: int
    n_parameters: int
    n_trained_parameters: int
    precision: str
    kept_epoch: dict[str, float]

    @property
    def headline(self) -> str:
        """One line: what was trained, on how much, and where it lies."""
        numbers = ", ".join(f"{name} {value:.4f}" for name, value in self.kept_epoch.items())
        return (
            f"trained {self.n_trained_parameters:,} of {self.n_parameters:,} parameters on {self.n_images} images "
            f"({self.precision}): {numbers}; models/checkpoint.pt, reports/train/"
        )


@dataclass(frozen=True)
class Fit:
    """What is fitted on what: the whole network on images, or its head on features that were computed once."""

    network: Network
    module: nn.Module
    train: Batches
    val: Batches | None


def train(params: TrainParams, model: ModelParams, image: ImageParams, project: Project) -> TrainReport:
    """Fit a network to `data/split.csv` and write its checkpoint and curves.

    With `model.freeze` the backbone sees every image once, and only the head is fitted, on its features.

    Raises:
        DataError: fewer than two classes or no training image, weights that do not fit, or a loss that is no number.
        LeakageError: a group sits on two sides.
    """
    rows = read_split_without_leaks(project)
    classes = manifest.class_names(rows)
    if len(classes) < 2:
        raise DataError(f"{project.split_csv}: found one class, {classes[0]!r}; expected at least 2")
    set_seed(params.seed)
    precision = resolve_precision(params.precision)
    accelerator = Accelerator(mixed_precision=precision, cpu=not torch.cuda.is_available())
    network = (
        build_network(model, image.size, len(classes)).to(accelerator.device).to(memory_format=torch.channels_last)
    )
    preprocess = build_preprocess(model, image)
    kept = [row for row in rows if row.kept]
    training, validation = (
        Frames(project, [row for row in kept if row.split == split], classes, preprocess) for split in ("train", "val")
    )
    if len(training) == 0:
        raise DataError(f"{project.split_csv}: no kept training rows; expected at least one")
    loss = build_loss(params.loss, [sum(row.label == name for row in training.rows) for name in classes])
    _check_fit(params, len(classes), has_val=len(validation) > 0)
    prepare_fit = _fit_of_head if model.freeze == "all" else _fit_of_network
    fit = prepare_fit(network, training, validation, params, accelerator)
    with replacing_folder(project.train_reports) as folder:
        kept_epoch = _run_epochs(fit, loss, params, accelerator, folder)
    checkpoint = Checkpoint(_state(network), tuple(classes), model, preprocess, _fingerprints(project))
    checkpoint.write(project.checkpoint)
    return TrainReport(
        n_images=len(training),
        n_parameters=sum(parameter.numel() for parameter in network.parameters()),
        n_trained_parameters=sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad),
        precision="fp32" if precision == "no" else precision,
        kept_epoch=kept_epoch,
    )


def _check_fit(params: TrainParams, n_classes: int, *, has_val: bool) -> None:
    """Refuse settings that this data cannot serve.

    Raises:
        ParamsError: a validation loss is asked for and there is no validation clip, or the loss is for other classes.
    """
    if not has_val and (params.keep == "best_val" or params.patience_epochs is not None):
        raise ParamsError("train.keep: best_val and train.patience_epochs need validation clips; set split.val")
    if isinstance(params.loss, BinaryCrossEntropyLoss) and n_classes != 2:
        raise ParamsError(f"train.loss: binary_cross_entropy is for 2 classes; found {n_classes}; use cross_entropy")
    if isinstance(params.loss, FocalLoss) and params.loss.alpha is not None and len(params.loss.alpha) != n_classes:
        raise ParamsError(
            f"train.loss.alpha: found {len(params.loss.alpha)} weights; expected {n_classes}, one a class"
        )


def resolve_precision(precision: str) -> str:
    """Accelerate's name for a precision; `auto` is bf16 where the processor multiplies it in hardware."""
    if torch.cuda.is_available():
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if precision == "bf16" or (precision == "auto" and has_bf16) else "no"


def _fit_of_network(network: Network, training: Frames, validation: Frames, params: TrainParams, _: Accelerator) -> Fit:
    val = batches(validation, params.batch_size) if len(validation) else None
    return Fit(network, network, batches(training, params.batch_size, shuffle_seed=params.seed), val)


def _fit_of_head(
    network: Network, training: Frames, validation: Frames, params: TrainParams, accelerator: Accelerator
) -> Fit:
    features = _embed(network, training, params, accelerator, "features of the training images")
    order = torch.Generator().manual_seed(params.seed)
    train = DataLoader(features, params.batch_size, shuffle=True, generator=order)
    if len(validation) == 0:
        return Fit(network, network.head, train, None)
    val = _embed(network, validation, params, accelerator, "features of the validation images")
    return Fit(network, network.head, train, DataLoader(val, params.batch_size))


@torch.no_grad()
def _embed(network: Network, frames: Frames, params: TrainParams, accelerator: Accelerator, what: str) -> Features:
    """Embeddings (n, channels) float32 and class numbers (n,) of all frames, from the frozen backbone in eval mode."""
    network.eval()
    embeddings, labels = [], []
    for input_nchw, label in track(batches(frames, params.batch_size), what, -(-len(frames) // params.batch_size)):
        on_device = input_nchw.to(accelerator.device, memory_format=torch.channels_last)
        with accelerator.autocast():
            embeddings.append(network.embed(on_device).float().cpu())
        labels.append(label)
    return Features(torch.cat(embeddings), torch.cat(labels))


def _run_epochs(fit: Fit, loss: Loss, params: TrainParams, accelerator: Accelerator, folder: Path) -> dict[str, float]:
    """Fit for all epochs, logging each into `folder`; the module ends as in the kept epoch, whose numbers it gives."""
    optimizer = build_optimizer(params, ((name, p) for name, p in fit.network.named_parameters() if p.requires_grad))
    schedule = build_schedule(params, optimizer)
    module, optimizer, train_batches = accelerator.prepare(fit.module, optimizer, fit.train)
    val_batches = None if fit.val is None else accelerator.prepare(fit.val)
    best = Best(params)
    with Live(dir=str(folder), dvcyaml=None, report=None, save_dvc_exp=False) as live:
        for epoch in track(range(1, params.epochs + 1), "epochs", params.epochs):
            numbers = {"train/lr": optimizer.param_groups[0]["lr"]}
            numbers |= _train_epoch(module, optimizer, train_batches, loss, params, accelerator)
            if not math.isfinite(numbers["train/loss"]):
                raise DataError(f"train: the loss of epoch {epoch} is {numbers['train/loss']}; lower train.lr")
            if val_batches is not None:
                numbers |= _validate(module, val_batches)
            for name, value in numbers.items():
                live.log_metric(name, value)
            live.next_step()
            schedule.step()
            if best.is_over(numbers, fit.module):
                break
    return best.restore(fit.module)


class Best:
    """The epoch that is kept, and whether it is time to stop looking for a better one."""

    def __init__(self, params: TrainParams) -> None:
        self._params = params
        self._numbers: dict[str, float] = {}
        self._state: dict[str, Tensor] | None = None
        self._lowest = math.inf
        self._epochs_since = 0

    def is_over(self, numbers: dict[str, float], module: nn.Module) -> bool:
        """Look at an epoch's numbers; gives True when patience is over."""
        improved = numbers.get("val/loss", math.inf) < self._lowest
        self._epochs_since = 0 if improved else self._epochs_since + 1
        if improved:
            self._lowest = numbers["val/loss"]
        if self._params.keep == "last" or improved:
            self._numbers = numbers
        if self._params.keep == "best_val" and improved:
            self._state = {name: value.detach().clone() for name, value in module.state_dict().items()}
        return self._params.patience_epochs is not None and self._epochs_since >= self._params.patience_epochs

    def restore(self, module: nn.Module) -> dict[str, float]:
        """Put the kept epoch's weights back; gives its numbers."""
        if self._state is not None:
            module.load_state_dict(self._state)
        return self._numbers


def _train_epoch(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    train_batches: Batches,
    loss: Loss,
    params: TrainParams,
    accelerator: Accelerator,
) -> dict[str, float]:
    """One pass over the training batches; gives the mean loss over images."""
    module.train()
    total, n_images = 0.0, 0
    for inputs, labels in train_batches:
        value = loss(module(inputs), labels)
        optimizer.zero_grad()
        accelerator.backward(value)
        if params.clip_gradient_norm is not None:
            accelerator.clip_grad_norm_(module.parameters(), params.clip_gradient_norm)
        optimizer.step()
        total += value.item() * len(labels)
        n_images += len(labels)
    return {"train/loss": total / n_images}


@torch.no_grad()
def _validate(module: nn.Module, val_batches: Batches) -> dict[str, float]:
    """Mean cross entropy and accuracy over the validation images."""
    module.eval()
    total, n_right, n_images = 0.0, 0, 0
    for inputs, labels in val_batches:
        logits = module(inputs)
        total += functional.cross_entropy(logits, labels, reduction="sum").item()
        n_right += int((logits.argmax(dim=1) == labels).sum())
        n_images += len(labels)
    return {"val/loss": total / n_images, "val/accuracy": n_right / n_images}


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}


def _fingerprints(project: Project) -> dict[str, str | None]:
    """The git commit (null outside a repository) and the hash of the data that was trained on."""
    try:
        git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project.root, capture_output=True, text=True, check=True)
        commit: str | None = git.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = None
    return {"git": commit, "data": sha256_of(project.split_csv)}
