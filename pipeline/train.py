"""Fit the network on the training rows; the curves go to `reports/train/`, the result to `models/checkpoint.pt`."""

from __future__ import annotations

import math
import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from pipeline import manifest
from pipeline.data import Features, Frames, batches
from pipeline.errors import DataError
from pipeline.files import Project, replacing_folder, sha256_of
from pipeline.leakage import refuse_leaks
from pipeline.network import Checkpoint, Network, build_network, build_preprocess
from pipeline.params import ImageParams, ModelParams, TrainParams
from pipeline.progress import track

Batches = DataLoader[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class TrainReport:
    """What was fitted, and how the last epoch went."""

    n_images: int
    n_parameters: int
    n_trained_parameters: int
    precision: str
    last_epoch: dict[str, float]

    @property
    def headline(self) -> str:
        """One line: what was trained, on how much, and where it lies."""
        numbers = ", ".join(f"{name} {value:.4f}" for name, value in self.last_epoch.items())
        return (
            f"trained {self.n_trained_parameters:,} of {self.n_parameters:,} parameters on {self.n_images} images "
            f"({self.precision}): {numbers}; models/checkpoint.pt, reports/train/"
        )


@dataclass(frozen=True)
class Fit:
    """What is fitted on what: the whole network on images, or its head on features that were computed once."""

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
    rows = manifest.read_split(project.split_csv)
    refuse_leaks(rows)
    classes = manifest.class_names(rows)
    if len(classes) < 2:
        raise DataError(f"{project.split_csv}: found one class, {classes[0]!r}; expected at least 2")
    set_seed(params.seed)
    precision = resolve_precision(params.precision)
    accelerator = Accelerator(mixed_precision=precision, cpu=not torch.cuda.is_available())
    network = build_network(model, len(classes)).to(accelerator.device).to(memory_format=torch.channels_last)
    preprocess = build_preprocess(model, image)
    kept = [row for row in rows if row.kept]
    training, validation = (
        Frames(project, [row for row in kept if row.split == split], classes, preprocess) for split in ("train", "val")
    )
    if len(training) == 0:
        raise DataError(f"{project.split_csv}: no kept training rows; expected at least one")
    prepare_fit = _fit_of_head if model.freeze else _fit_of_network
    fit = prepare_fit(network, training, validation, params, accelerator)
    with replacing_folder(project.train_reports) as folder:
        last_epoch = _run_epochs(fit, params, accelerator, folder)
    checkpoint = Checkpoint(_state(network), tuple(classes), model, preprocess, _fingerprints(project))
    checkpoint.write(project.checkpoint)
    return TrainReport(
        n_images=len(training),
        n_parameters=sum(parameter.numel() for parameter in network.parameters()),
        n_trained_parameters=sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad),
        precision="fp32" if precision == "no" else precision,
        last_epoch=last_epoch,
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
    return Fit(network, batches(training, params.batch_size, shuffle_seed=params.seed), val)


def _fit_of_head(
    network: Network, training: Frames, validation: Frames, params: TrainParams, accelerator: Accelerator
) -> Fit:
    features = _embed(network, training, params, accelerator, "features of the training images")
    order = torch.Generator().manual_seed(params.seed)
    train = DataLoader(features, params.batch_size, shuffle=True, generator=order)
    if len(validation) == 0:
        return Fit(network.head, train, None)
    val = _embed(network, validation, params, accelerator, "features of the validation images")
    return Fit(network.head, train, DataLoader(val, params.batch_size))


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


def _run_epochs(fit: Fit, params: TrainParams, accelerator: Accelerator, folder: Path) -> dict[str, float]:
    """Fit for all epochs, logging each into `folder`; gives the last epoch's numbers."""
    from dvclive.live import Live

    optimizer = torch.optim.Adam((p for p in fit.module.parameters() if p.requires_grad), lr=params.lr)
    module, optimizer, train_batches = accelerator.prepare(fit.module, optimizer, fit.train)
    val_batches = None if fit.val is None else accelerator.prepare(fit.val)
    numbers: dict[str, float] = {}
    with Live(dir=str(folder), dvcyaml=None, report=None, save_dvc_exp=False) as live:
        for epoch in track(range(1, params.epochs + 1), "epochs", params.epochs):
            numbers = {"train/loss": _train_epoch(module, optimizer, train_batches, accelerator)}
            if not math.isfinite(numbers["train/loss"]):
                raise DataError(f"train: the loss of epoch {epoch} is {numbers['train/loss']}; lower train.lr")
            if val_batches is not None:
                numbers |= _validate(module, val_batches)
            for name, value in numbers.items():
                live.log_metric(name, value)
            live.next_step()
    return numbers


def _train_epoch(
    module: nn.Module, optimizer: torch.optim.Optimizer, train_batches: Batches, accelerator: Accelerator
) -> float:
    """One pass over the training batches; gives the mean cross entropy over images."""
    module.train()
    total, n_images = 0.0, 0
    for inputs, labels in train_batches:
        loss = functional.cross_entropy(module(inputs), labels)
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        total += loss.item() * len(labels)
        n_images += len(labels)
    return total / n_images


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
