"""Stage `train`: fit the network on the training rows, and write the checkpoint and the curves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.base.files import exclusive, replacing_folder, sha256_of, write_json
from pipeline.base.manifest import Row
from pipeline.base.progress import tell
from pipeline.base.project import Project
from pipeline.base.storage.making_time import making_time
from pipeline.network.calibration import FEWEST_CLIPS, Calibration, calibrate, not_calibrated
from pipeline.network.checkpoint import Checkpoint
from pipeline.network.embeddings import frozen_embeddings
from pipeline.network.fit_known_score import fit_known_score, spread_over_classes
from pipeline.network.heads import Head
from pipeline.network.inference import Frames, embed
from pipeline.network.known_score import KnownScore, answers_of
from pipeline.network.network import Network, build_network
from pipeline.network.out_of_fold import write_fold_heads, write_out_of_fold
from pipeline.network.params import ImageParams, ModelParams
from pipeline.network.torch_settings import set_up_torch
from pipeline.train.adapt import (
    Choice,
    Training,
    choose_adaptation,
    fit_blocks,
    one_after_the_other,
    open_blocks,
)
from pipeline.train.best_epoch import Metrics
from pipeline.train.curves import write_curves
from pipeline.train.folds import FoldData, OutOfFold, Part, fit_folds, fit_score
from pipeline.train.inputs.batches import Images, exact, pictures
from pipeline.train.inputs.feature_cache import exact_features, view_features
from pipeline.train.params import TrainParams
from pipeline.train.precision import build_accelerator, keep_strided_depthwise_in_float32
from pipeline.train.provenance import fingerprints, refuse_changed_split, refuse_empty_repository, write_provenance
from pipeline.train.resume import run_key
from pipeline.train.run import Fitted, Inputs, RunContext, fit_all_epochs
from pipeline.train.summary import NetworkSummary, summarise
from pipeline.train.training_data import TrainingData, read_training_data, watches_test

_NO_VALIDATION = "no validation frames; set split.val"
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
class _Result:
    """What was fitted, and what the clips that it has not seen say about it."""

    fitted: Fitted
    model: ModelParams  # with the layers that stayed frozen
    calibration: Calibration
    known_score: KnownScore | None
    folds: FoldData | None  # None where the test side judges
    out_of_fold: OutOfFold | None


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
        DataError: fewer than two classes or no training image, weights that do not fit, a loss that is not finite, a
            split that was changed meanwhile, or a git repository without a commit.
        LeakageError: a group sits on two sides.
        ParamsError: settings that the data or the machine cannot serve.
    """
    started = time.perf_counter()
    refuse_empty_repository(project)
    asked = params
    split_sha256 = sha256_of(project.split_csv) if project.split_csv.is_file() else ""
    data = read_training_data(params, model, image, project)
    accelerator = build_accelerator(params)
    set_up_torch()
    torch.backends.cudnn.deterministic = True  # on a GPU: its fastest kernels add in no fixed order
    set_seed(params.seed)
    network = _new_network(model, image, len(data.classes), accelerator.device)
    summary = _tell_layers(network, accelerator)
    machine = [*_machine(accelerator), first_weights_identity(model)]
    key = run_key(project, data.in_folds or list(chain(*data.sides.values())), (model, image, params), machine)
    run = RunContext(accelerator, project, key, started)
    choice = None
    if params.adapt == "auto":
        choice, run = _choose_adaptation(network, params, data, run)
        params = params.model_copy(update={"adapt": choice.way if choice else "head"})
        if params.adapt == "tune":  # the test side judges it
            data = read_training_data(params, model, image, project)
    if data.estimate == "folds":
        result = _fit_with_folds(network, params, model, data, run)
    else:
        result = _fit_with_held_out(network, params, model, data, run)
    if not accelerator.is_main_process:
        return None
    summary = summary if result.model == model else summarise(network)  # where layers were opened
    refuse_changed_split(split_sha256, project)
    _checkpoint(network, image, params, data, result).write(project.checkpoint)
    write_fold_heads(result.out_of_fold.heads if result.out_of_fold else [], project.fold_heads)
    with replacing_folder(project.train_reports) as folder:
        _write_reports(folder, data, result, summary, choice)
        write_provenance(folder, project, model, {"image": image, "train": asked}, data.learned_from)
    for state in project.resume_state(key).parent.glob(f"{key}*"):  # of the folds and the last blocks too
        state.unlink(missing_ok=True)
    precision = "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision
    best = result.fitted.best
    return TrainReport(len(data.learned), len(result.fitted.history), summary, precision, best.epoch, best.metrics)


def _new_network(model: ModelParams, image: ImageParams, n_classes: int, device: torch.device) -> Network:
    """The network with its first weights, laid out as the device computes fastest."""
    network = build_network(model, image.size, n_classes).to(device)
    network.to(memory_format=torch.channels_last)
    if device.type == "cpu":
        keep_strided_depthwise_in_float32(network)
    return network


def _write_reports(
    folder: Path, data: TrainingData, result: _Result, summary: NetworkSummary, choice: Choice | None
) -> None:
    """Write the files of `reports/train/` but the last, which names their hashes."""
    write_curves(folder, result.fitted.history, result.fitted.best, summary)
    if result.folds and result.out_of_fold:
        table = folder / data.project.out_of_fold_csv().name
        write_out_of_fold(result.folds.judged_rows, result.out_of_fold.answers, data.classes, table)
    if choice:
        write_json(folder / data.project.adapt_json().name, choice.to_json())


def _tell_layers(network: Network, accelerator: Accelerator) -> NetworkSummary:
    """Summarise the layers, and say which of them learn."""
    summary = summarise(network)
    if accelerator.is_main_process:
        tell("\n".join(summary.lines()))
    return summary


def _choose_adaptation(
    network: Network, params: TrainParams, data: TrainingData, run: RunContext
) -> tuple[Choice | None, RunContext]:
    """Try what `train.adapt: auto` may choose, and say what came of it; returns the run after its features too."""

    def data_of(part: Network, learned: Sequence[Row], judged: Sequence[Row]) -> FoldData:
        return _fold_data(part, learned, judged, params, data, run.accelerator)

    training = Training(data.learned, data.sides["train"], data_of)
    with making_time() as times:
        choice = choose_adaptation(network, params, training, len(data.classes), run)
    if run.accelerator.is_main_process:
        tell(str(choice) if choice else "train.adapt: auto keeps to the head: the training side has no two folds")
    return choice, run.after_caching(times)


def _fit_with_folds(
    network: Network, params: TrainParams, model: ModelParams, data: TrainingData, run: RunContext
) -> _Result:
    """Fit the head of each fold, calibrate by what they say about the clips left out, then fit the network's head."""
    learned_rows, judged_rows = (
        [row for row in data.in_folds if row.kept],
        [row for row in data.in_folds if not row.is_copy],
    )
    with making_time() as times:
        folds = _fold_data(network, learned_rows, judged_rows, params, data, run.accelerator)
    run = run.after_caching(times)
    out_of_fold = fit_folds(network, folds, params, len(data.classes), run)
    chosen = {row.path for row in data.learned}
    learned = [position for position, row in enumerate(folds.learned_rows) if row.path in chosen]
    inputs = Inputs(network.head, Part(folds.learned, learned), folds.learned.labels[learned], {})
    fitted = fit_all_epochs(network, inputs, params, len(data.classes), run)
    for of_run, of_folds in zip(fitted.history, out_of_fold.curves, strict=True):
        of_run.update(of_folds)
    originals = [position for position, row in enumerate(folds.judged_rows) if row.path in chosen]
    score = fit_score(folds.judged, originals, params) or fit_score(folds.learned, learned, params)
    return _Result(fitted, model, out_of_fold.calibration, score, folds, out_of_fold)


def _fold_data(
    network: Network,
    learned: Sequence[Row],
    judged: Sequence[Row],
    params: TrainParams,
    data: TrainingData,
    accelerator: Accelerator,
) -> FoldData:
    """Find or compute what a network's `embed` gives of rows to learn from, in random views, and of rows to judge."""
    device, precision = accelerator.device, _DTYPES[accelerator.mixed_precision]
    with accelerator.main_process_first():  # it fills the caches, and the others read them
        return FoldData(
            learned,
            view_features(network, data.images(learned), params, precision, device),
            judged,
            exact_features(network, data.images(judged), params.batch_size),
        )


def _fit_with_held_out(
    network: Network, params: TrainParams, model: ModelParams, data: TrainingData, run: RunContext
) -> _Result:
    """Fit the network to the training side, and calibrate it by the validation side."""
    with run.accelerator.main_process_first(), making_time() as times:  # it fills the caches, and the others read them
        inputs = _build_inputs(network, params, model, data, run.accelerator)
    run = run.after_caching(times)
    fitted = fit_all_epochs(network, inputs, params, len(data.classes), run)
    if params.adapt == "tune":
        fitted, model = _tune(network, params, model, data, run, fitted)
    return _Result(fitted, model, *_calibrate_on_val(network, params, model, data), None, None)


def _tune(
    network: Network, params: TrainParams, model: ModelParams, data: TrainingData, run: RunContext, head: Fitted
) -> tuple[Fitted, ModelParams]:
    """Open the last blocks of a network whose head is fitted, and fit both; returns the epochs of head and blocks."""
    blocks = open_blocks(network)
    _tell_layers(network, run.accelerator)
    with run.accelerator.main_process_first(), making_time() as times:  # it fills the caches, and the others read them
        inputs = _cached_inputs(blocks.frozen, blocks.opened, params, data, run.accelerator)
    run = run.after_caching(times)
    fitted = fit_blocks(network, inputs, params, len(data.classes), run, head)
    return one_after_the_other(head, fitted), model.model_copy(update={"freeze": blocks.freeze})


def _build_inputs(
    network: Network, params: TrainParams, model: ModelParams, data: TrainingData, accelerator: Accelerator
) -> Inputs:
    """Build the source of each side: cached features for the head where the whole backbone is frozen, else pictures."""
    if model.freeze == "all" and (params.cached_views or not params.online):
        return _cached_inputs(network, network.head, params, data, accelerator)
    images = _images_of_sides(params, data)
    train = pictures(images.pop("train"), params)
    held_out = {side: exact(of_side) for side, of_side in images.items()}
    for frames in (train.frames, *(source.frames for source in held_out.values())):
        frames.decode()
    return Inputs(network, train, train.labels, held_out)


def _cached_inputs(
    frozen: Network, module: Network | Head, params: TrainParams, data: TrainingData, accelerator: Accelerator
) -> Inputs:
    """Find or compute what the frozen part of a network gives of each side, for the module that learns from it."""
    device, precision = accelerator.device, _DTYPES[accelerator.mixed_precision]
    images = _images_of_sides(params, data)
    train = images.pop("train")
    held_out = {side: exact_features(frozen, of_side, params.batch_size) for side, of_side in images.items()}
    return Inputs(module, view_features(frozen, train, params, precision, device), train.labels, held_out)


def _images_of_sides(params: TrainParams, data: TrainingData) -> dict[str, Images]:
    """The images of the training side, and of each side that is measured after every epoch."""
    watched = ["val"] * bool(data.sides["val"]) + ["test"] * watches_test(params)
    return {side: data.images(data.sides[side]) for side in ("train", *watched)}


@torch.inference_mode()
def _calibrate_on_val(
    network: Network, params: TrainParams, model: ModelParams, data: TrainingData
) -> tuple[Calibration, KnownScore | None]:
    """Fit the known score to the training side; calibrate it and the network by the validation side."""
    rows = data.sides["val"]
    if not rows:
        return not_calibrated(_NO_VALIDATION), None
    network.eval()  # a run that continued after its last epoch has not measured, and would drop values at random
    groups = [row.group for row in rows]
    learned = [row for row in data.learned if not row.is_copy] or data.learned
    score = None
    if params.unknown_false_alarms is not None and len(set(groups)) >= FEWEST_CLIPS:
        labels = np.array([data.classes.index(row.label) for row in learned])
        fitted = spread_over_classes(labels)
        pooled = _pooled(network, params, model, data, [learned[position] for position in fitted.tolist()])
        score = fit_known_score(pooled, labels[fitted])
    pooled = _pooled(network, params, model, data, rows)
    logits = network.head(torch.from_numpy(pooled).to(next(network.head.parameters()).device)).cpu().numpy()
    truth = np.array([data.classes.index(row.label) for row in rows])
    return calibrate(answers_of(logits, pooled, score), truth, groups, params.unknown_false_alarms), score


def _pooled(
    network: Network, params: TrainParams, model: ModelParams, data: TrainingData, rows: Sequence[Row]
) -> NDArray[np.float32]:
    """Find or compute the pooled features (n, channels) of frames; only those of a frozen backbone are kept."""
    frames = Frames(data.project, rows, data.classes, data.preprocess)
    if model.freeze == "all":
        return frozen_embeddings(network, frames, params.batch_size)
    batches = embed(network.eval(), frames, params.batch_size, "features to calibrate on")
    pooled: NDArray[np.float32] = torch.cat(list(batches)).numpy()
    return pooled


def _machine(accelerator: Accelerator) -> list[str]:
    """Return what a run's result depends on beside its settings, data and code."""
    return [accelerator.device.type, str(accelerator.mixed_precision), str(accelerator.num_processes)]


def first_weights_identity(model: ModelParams) -> str:
    """Return what a network starts from; for a file its hash, since its content may change."""
    return model.weights if model.weights in ("none", "imagenet") else sha256_of(Path(model.weights))


def _checkpoint(
    network: Network, image: ImageParams, params: TrainParams, data: TrainingData, result: _Result
) -> Checkpoint:
    """Collect everything that later stages need to rebuild the fitted network, and to judge it."""
    return Checkpoint(
        state_dict=_state_on_cpu(network),
        classes=tuple(data.classes),
        model=result.model,
        preprocess=data.preprocess,
        fingerprints=fingerprints(data.project),
        selection=params.keep,
        estimate=data.estimate,
        refit=data.refit,
        learned_from=data.learned_from,
        calibration=result.calibration,
        sample_bits=image.sample_bits,
        known_score=result.known_score,
    )


def _state_on_cpu(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}
