"""Stage `train`: fit the network on the training rows, and write the checkpoint and the curves."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, set_seed
from torch import Tensor, nn

from pipeline.base import manifest
from pipeline.base.errors import DataError, ParamsError
from pipeline.base.files import exclusive, replacing_folder, sha256_of
from pipeline.base.leakage import read_split_without_leaks
from pipeline.base.manifest import Row
from pipeline.base.progress import tell, track
from pipeline.base.project import Project
from pipeline.network.checkpoint import Checkpoint
from pipeline.network.heads import Head
from pipeline.network.inference import forbid_tf32
from pipeline.network.network import Network, build_network, build_preprocess
from pipeline.network.params import ImageParams, ModelParams
from pipeline.network.preprocess import Preprocess
from pipeline.train.batches import Source, exact, label_images, pictures
from pipeline.train.best_epoch import BestEpoch, Metrics
from pipeline.train.calibration import calibrate
from pipeline.train.curves import TensorBoard, write_curves
from pipeline.train.feature_cache import exact_features, view_features
from pipeline.train.fit import Fit
from pipeline.train.losses import build_objective, class_weights
from pipeline.train.params import BinaryCrossEntropyLoss, FocalLoss, TrainParams
from pipeline.train.precision import build_accelerator, keep_strided_depthwise_in_float32
from pipeline.train.provenance import fingerprints, refuse_changed_split, write_provenance
from pipeline.train.resume import read_state, run_key, write_state
from pipeline.train.summary import NetworkSummary, summarise

_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}  # by accelerate's names


@dataclass(frozen=True)
class TrainReport:
    """What was fitted, and the metrics of the kept epoch."""

    n_images: int
    n_epochs: int
    network: NetworkSummary
    precision: str
    kept_epoch: int
    kept_metrics: Metrics

    @property
    def headline(self) -> str:
        """One line: what was trained, on how many images, and where the result lies."""
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in self.kept_metrics.items())
        return (
            f"trained {self.network.n_trained_parameters:,} of {self.network.n_parameters:,} parameters on "
            f"{self.n_images} images ({self.precision}); kept epoch {self.kept_epoch} of {self.n_epochs}: {metrics}; "
            "models/checkpoint.pt, reports/train/"
        )


@dataclass(frozen=True)
class TrainingData:
    """The kept rows by side, the classes, and the preprocessing."""

    project: Project
    rows: dict[str, list[Row]]  # by side: train, val, test
    classes: list[str]
    preprocess: Preprocess

    @property
    def labels(self) -> Tensor:
        """Class numbers (n,) of the training images."""
        return torch.tensor([self.classes.index(row.label) for row in self.rows["train"]])

    @property
    def images_per_class(self) -> list[int]:
        """Training images by class."""
        return torch.bincount(self.labels, minlength=len(self.classes)).tolist()


@dataclass(frozen=True)
class Inputs:
    """What is fitted on what: the network on images, or its head alone on features of the frozen backbone."""

    module: Network | Head
    train: Source
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
    started: float  # seconds of the performance counter


@exclusive("pipe train")
def train(params: TrainParams, model: ModelParams, image: ImageParams, project: Project) -> TrainReport | None:
    """Fit a network to `data/split.csv` and write its checkpoint and curves.

    A run that was killed continues after its last whole epoch.

    Args:
        params: the section `train`.
        model: the section `model`.
        image: the section `image`.
        project: where the frames and the split lie, and where the checkpoint and the curves are written.

    Returns:
        The report; None in all processes but the first, which alone writes.

    Raises:
        DataError: fewer than two classes or no training image, weights that do not fit, a loss that is not finite, or
            a split that was changed meanwhile.
        LeakageError: a group sits on two sides.
        ParamsError: settings that the data or the machine cannot serve.
    """
    started = time.perf_counter()
    split_sha256 = sha256_of(project.split_csv) if project.split_csv.is_file() else ""
    data = _read_data(model, image, project)
    _refuse_unfit_settings(params, data)
    accelerator = build_accelerator(params)
    forbid_tf32()
    torch.backends.cudnn.deterministic = True  # on a GPU: its fastest kernels add in no fixed order
    set_seed(params.seed)
    network = build_network(model, image.size, len(data.classes)).to(accelerator.device)
    network.to(memory_format=torch.channels_last)
    summary = summarise(network)
    if accelerator.device.type == "cpu":
        keep_strided_depthwise_in_float32(network)
    if accelerator.is_main_process:
        tell("\n".join(summary.lines()))
    machine = [*_machine(accelerator), first_weights_identity(model)]
    key = run_key(project, list(chain(*data.rows.values())), (model, image, params), machine)
    with accelerator.main_process_first():  # it fills the caches, and the others read them
        inputs = _build_inputs(network, params, model, data, accelerator)
    fitted = _fit(network, inputs, params, data, RunContext(accelerator, project, key, started))
    if not accelerator.is_main_process:
        return None
    checkpoint = _checkpoint(network, model, inputs, params, data)
    refuse_changed_split(split_sha256, project)
    replace(checkpoint, sample_bits=image.sample_bits).write(project.checkpoint)
    with replacing_folder(project.train_reports) as folder:
        write_curves(folder, fitted.history, fitted.best, summary)
        write_provenance(folder, project, model, {"image": image, "train": params})
    project.resume_state(key).unlink(missing_ok=True)
    precision = "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision
    return TrainReport(
        len(data.rows["train"]), len(fitted.history), summary, precision, fitted.best.epoch, fitted.best.metrics
    )


def _read_data(model: ModelParams, image: ImageParams, project: Project) -> TrainingData:
    rows = read_split_without_leaks(project)
    classes = manifest.class_names(rows)
    if len(classes) < 2:
        raise DataError(f"{project.split_csv}: found one class, {classes[0]!r}; expected at least 2")
    sides = {side: [row for row in rows if row.kept and row.split == side] for side in ("train", "val", "test")}
    if not sides["train"]:
        raise DataError(f"{project.split_csv}: no kept training rows; expected at least one")
    return TrainingData(project, sides, classes, build_preprocess(model, image))


def _refuse_unfit_settings(params: TrainParams, data: TrainingData) -> None:
    """Refuse settings that this data cannot serve.

    Raises:
        ParamsError: a side that is to be measured has no image, or the loss is for another number of classes.
    """
    n_classes = len(data.classes)
    if not data.rows["val"] and (params.keep == "best_val" or params.patience_epochs is not None):
        raise ParamsError("train.keep: best_val and train.patience_epochs need validation clips; set split.val")
    if not data.rows["test"] and _watches_test(params):
        raise ParamsError("train.keep: best_test and train.watch_test need test clips; found no kept test row")
    if isinstance(params.loss, BinaryCrossEntropyLoss) and n_classes != 2:
        raise ParamsError(f"train.loss: binary_cross_entropy is for 2 classes; found {n_classes}; use cross_entropy")
    if isinstance(params.loss, FocalLoss) and params.loss.alpha is not None and len(params.loss.alpha) != n_classes:
        raise ParamsError(
            f"train.loss.alpha: found {len(params.loss.alpha)} weights; expected {n_classes}, one per class"
        )


def _watches_test(params: TrainParams) -> bool:
    return params.watch_test or params.keep == "best_test"


def _build_inputs(
    network: Network, params: TrainParams, model: ModelParams, data: TrainingData, accelerator: Accelerator
) -> Inputs:
    """Build the source of each side: cached features for the head where the whole backbone is frozen, else pictures."""
    watched = ["val"] * bool(data.rows["val"]) + ["test"] * _watches_test(params)
    images = {
        side: label_images(data.project, data.rows[side], data.classes, data.preprocess) for side in ("train", *watched)
    }
    if model.freeze != "all" or (params.online and not params.cached_views):
        train, held_out = pictures(images["train"], params), {side: exact(images[side]) for side in watched}
        for frames in (train.frames, *(source.frames for source in held_out.values())):
            frames.decode()
        return Inputs(network, train, held_out)
    device, precision = accelerator.device, _DTYPES[accelerator.mixed_precision]
    features = {side: exact_features(network, images[side], params.batch_size, device) for side in watched}
    return Inputs(network.head, view_features(network, images["train"], params, precision, device), features)


def _fit(network: Network, inputs: Inputs, params: TrainParams, data: TrainingData, run: RunContext) -> Fitted:
    """Fit for all epochs that are left; the network ends with the weights of the kept epoch."""
    objective = build_objective(inputs.module, params.loss, data.images_per_class, params.seed)
    weights = class_weights(params.loss, data.images_per_class)[data.labels]
    fit, best, history = Fit(network, objective, params, run.accelerator), BestEpoch(params), list[Metrics]()
    _resume(fit, best, history, run)
    minutes_before = history[-1]["train/minutes"] if history else 0.0
    with TensorBoard(run.project.tensorboard / run.key, history, is_on=run.accelerator.is_main_process) as board:
        for epoch in track(range(len(history) + 1, params.epochs + 1), "epochs", params.epochs - len(history)):
            if best.should_stop:
                break
            metrics = fit.run_epoch(epoch, inputs.train, inputs.watched, weights)
            metrics["train/minutes"] = minutes_before + (time.perf_counter() - run.started) / 60
            best.consider(epoch, metrics, fit.module)
            history.append(metrics)
            board.add(epoch, metrics)
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
    fit.load_state_dict(state[0]["fit"])
    best.load_state_dict(state[0]["best"])
    history.extend(state[0]["history"])
    if run.accelerator.is_main_process:
        tell(f"going on after epoch {len(history)}")


def _machine(accelerator: Accelerator) -> list[str]:
    """Return what a run's result depends on beside its settings, data and code."""
    return [accelerator.device.type, str(accelerator.mixed_precision), str(accelerator.num_processes)]


def first_weights_identity(model: ModelParams) -> str:
    """Return what a network starts from; for a file its hash, since its content may change."""
    return model.weights if model.weights in ("none", "imagenet") else sha256_of(Path(model.weights))


def _checkpoint(
    network: Network, model: ModelParams, inputs: Inputs, params: TrainParams, data: TrainingData
) -> Checkpoint:
    """Calibrate the fitted network, and collect everything that later stages need to rebuild it."""
    groups = [row.group for row in data.rows["val"]]
    device = next(network.parameters()).device
    calibration = calibrate(inputs.module, inputs.watched.get("val"), groups, params, device)
    return Checkpoint(
        state_dict=_state_on_cpu(network),
        classes=tuple(data.classes),
        model=model,
        preprocess=data.preprocess,
        fingerprints=fingerprints(data.project),
        selection=params.keep,
        **asdict(calibration),
    )


def _state_on_cpu(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}
