"""Fit the network on the training rows; the curves go to `reports/train/`, the result to `models/checkpoint.pt`."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, set_seed
from torch import Tensor, nn

from pipeline.base import manifest
from pipeline.base.errors import DataError, ParamsError
from pipeline.base.files import replacing_folder, sha256_of
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
from pipeline.train.batches import Source, exact, labelled, pictures
from pipeline.train.best_epoch import Best
from pipeline.train.calibration import calibrate
from pipeline.train.curves import Numbers, TensorBoard, write_curves
from pipeline.train.feature_cache import exact_features, views
from pipeline.train.fit import Fit
from pipeline.train.losses import build_objective, class_weights
from pipeline.train.params import BinaryCrossEntropyLoss, FocalLoss, TrainParams
from pipeline.train.precision import build_accelerator, keep_strided_depthwise_in_float32
from pipeline.train.provenance import fingerprints, write_provenance
from pipeline.train.resume import read_state, run_key, write_state
from pipeline.train.summary import NetworkSummary, summarise

_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}  # of accelerate's names


@dataclass(frozen=True)
class TrainReport:
    """What was fitted, and how the epoch went that was kept."""

    n_images: int
    n_epochs: int
    network: NetworkSummary
    precision: str
    kept_epoch: int
    kept_numbers: Numbers

    @property
    def headline(self) -> str:
        """One line: what was trained, on how much, and where it lies."""
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in self.kept_numbers.items())
        return (
            f"trained {self.network.n_trained_parameters:,} of {self.network.n_parameters:,} parameters on "
            f"{self.n_images} images ({self.precision}); kept epoch {self.kept_epoch} of {self.n_epochs}: {numbers}; "
            "models/checkpoint.pt, reports/train/"
        )


@dataclass(frozen=True)
class Data:
    """The kept rows by side, and how their pictures become inputs."""

    project: Project
    rows: dict[str, list[Row]]
    classes: list[str]
    preprocess: Preprocess

    @property
    def labels(self) -> Tensor:
        """(n,) class numbers of the training images."""
        return torch.tensor([self.classes.index(row.label) for row in self.rows["train"]])

    @property
    def images_per_class(self) -> list[int]:
        """Training images by class."""
        return torch.bincount(self.labels, minlength=len(self.classes)).tolist()


@dataclass(frozen=True)
class Inputs:
    """What is fitted and looked at: images for the network, or features of a frozen backbone for its head alone."""

    module: Network | Head
    train: Source
    watched: dict[str, Source]  # by side, for the curves beside those of training


@dataclass(frozen=True)
class Fitted:
    """What came of the epochs: their numbers, and which one the network is left in."""

    history: list[Numbers]
    best: Best


def train(params: TrainParams, model: ModelParams, image: ImageParams, project: Project) -> TrainReport | None:
    """Fit a network to `data/split.csv` and write its checkpoint and curves.

    A run that was killed goes on after its last whole epoch. Of several processes the first one writes, and the others
    give None.

    Raises:
        DataError: fewer than two classes or no training image, weights that do not fit, or a loss that is no number.
        LeakageError: a group sits on two sides.
        ParamsError: settings that the data or the machine cannot serve.
    """
    started = time.perf_counter()
    data = _read(model, image, project)
    _check(params, data)
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
    circumstances = [*_machine(accelerator), first_weights(model)]
    key = run_key(project, list(chain(*data.rows.values())), (model, image, params), circumstances)
    with accelerator.main_process_first():  # what it computes and keeps in the cache, the others read
        inputs = _inputs(network, params, model, data, accelerator)
    fitted = _fit(network, inputs, params, data, Run(accelerator, project, key, started))
    if not accelerator.is_main_process:
        return None
    with replacing_folder(project.train_reports) as folder:
        write_curves(folder, fitted.history, fitted.best, summary)
        write_provenance(folder, project, model, {"image": image, "train": params})
    groups = [row.group for row in data.rows["val"]]
    calibration = calibrate(inputs.module, inputs.watched.get("val"), groups, params, accelerator.device)
    checkpoint = Checkpoint(
        state_dict=_state(network),
        classes=tuple(data.classes),
        model=model,
        preprocess=data.preprocess,
        fingerprints=fingerprints(project),
        selection=params.keep,
        **asdict(calibration),
    )
    checkpoint.write(project.checkpoint)
    project.resume_state(key).unlink(missing_ok=True)
    precision = "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision
    return TrainReport(
        len(data.rows["train"]), len(fitted.history), summary, precision, fitted.best.epoch, fitted.best.numbers
    )


def _read(model: ModelParams, image: ImageParams, project: Project) -> Data:
    rows = read_split_without_leaks(project)
    classes = manifest.class_names(rows)
    if len(classes) < 2:
        raise DataError(f"{project.split_csv}: found one class, {classes[0]!r}; expected at least 2")
    sides = {side: [row for row in rows if row.kept and row.split == side] for side in ("train", "val", "test")}
    if not sides["train"]:
        raise DataError(f"{project.split_csv}: no kept training rows; expected at least one")
    return Data(project, sides, classes, build_preprocess(model, image))


def _check(params: TrainParams, data: Data) -> None:
    """Refuse settings that this data cannot serve.

    Raises:
        ParamsError: a side is to be looked at that has no image, or the loss is for other classes.
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
            f"train.loss.alpha: found {len(params.loss.alpha)} weights; expected {n_classes}, one a class"
        )


def _watches_test(params: TrainParams) -> bool:
    return params.watch_test or params.keep == "best_test"


def _inputs(network: Network, params: TrainParams, model: ModelParams, data: Data, accelerator: Accelerator) -> Inputs:
    """Where the batches of each side come from: the head's from cached features, where the backbone is all frozen."""
    watched = ["val"] * bool(data.rows["val"]) + ["test"] * _watches_test(params)
    images = {
        side: labelled(data.project, data.rows[side], data.classes, data.preprocess) for side in ("train", *watched)
    }
    device = accelerator.device
    if model.freeze != "all" or (params.online and not params.cached_views):
        return Inputs(network, pictures(images["train"], params), {side: exact(images[side]) for side in watched})
    held_out: dict[str, Source] = {
        side: exact_features(network, images[side], params.batch_size, device) for side in watched
    }
    precision = _DTYPES[accelerator.mixed_precision]
    return Inputs(network.head, views(network, images["train"], params, precision, device), held_out)


@dataclass(frozen=True)
class Run:
    """A run, among its processes and among others."""

    accelerator: Accelerator
    project: Project
    key: str
    started: float  # seconds of the performance counter


def _fit(network: Network, inputs: Inputs, params: TrainParams, data: Data, run: Run) -> Fitted:
    """Fit for all epochs that are left; the network ends as in the kept one."""
    objective = build_objective(inputs.module, params.loss, data.images_per_class, params.seed)
    weights = class_weights(params.loss, data.images_per_class)[data.labels]
    fit, best, history = Fit(network, objective, params, run.accelerator), Best(params), list[Numbers]()
    _resume(fit, best, history, run)
    minutes_before = history[-1]["train/minutes"] if history else 0.0
    with TensorBoard(run.project.tensorboard / run.key, history, is_on=run.accelerator.is_main_process) as board:
        for epoch in track(range(len(history) + 1, params.epochs + 1), "epochs", params.epochs - len(history)):
            if best.is_over:
                break
            numbers = fit.run_epoch(epoch, inputs.train, inputs.watched, weights)
            numbers["train/minutes"] = minutes_before + (time.perf_counter() - run.started) / 60
            best.look(epoch, numbers, fit.module)
            history.append(numbers)
            board.add(epoch, numbers)
            if run.accelerator.is_main_process:
                state = {"fit": fit.state_dict(), "best": best.state_dict(), "history": history}
                write_state(run.project.resume_state(run.key), state)
    best.restore(fit.module)
    return Fitted(history, best)


def _resume(fit: Fit, best: Best, history: list[Numbers], run: Run) -> None:
    """Go on where a run of the same key was stopped; the first process reads, the others hear from it."""
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
    """What the numbers of a run hang on beside its settings, data and code."""
    return [accelerator.device.type, str(accelerator.mixed_precision), str(accelerator.num_processes)]


def first_weights(model: ModelParams) -> str:
    """What a network starts from; of a file its content, which may change under its name."""
    return model.weights if model.weights in ("none", "imagenet") else sha256_of(Path(model.weights))


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}
