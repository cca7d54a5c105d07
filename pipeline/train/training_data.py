"""The rows of the split by what training does with them, and the settings that they cannot serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.base import manifest
from pipeline.base.errors import DataError, ParamsError
from pipeline.base.leakage import read_split_without_leaks
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.network.checkpoint import Estimate, Refit
from pipeline.network.network import build_preprocess
from pipeline.network.params import ImageParams, ModelParams
from pipeline.network.preprocess import Preprocess
from pipeline.train.adapt import refuse_unfit_adaptation
from pipeline.train.estimate import choose_estimate, choose_refit
from pipeline.train.inputs.batches import Images, label_images
from pipeline.train.params import BinaryCrossEntropyLoss, FocalLoss, TrainParams
from pipeline.train.trackers import refuse_missing_trackers


@dataclass(frozen=True)
class TrainingData:
    """The rows by what is done with them, the classes, and the preprocessing."""

    project: Project
    sides: dict[str, list[Row]]  # kept rows of train, val and test
    in_folds: list[Row]  # all rows that have a fold; none where the test side judges
    estimate: Estimate
    refit: Refit
    classes: list[str]
    preprocess: Preprocess

    @property
    def learned(self) -> list[Row]:
        """The rows that the network learns from."""
        return [row for row in self.in_folds if row.kept] if self.refit == "all" else self.sides["train"]

    @property
    def learned_from(self) -> tuple[str, ...]:
        """The sha256 of each recording that the network learns from, sorted."""
        return tuple(sorted({row.source_sha256 for row in self.learned}))

    def images(self, rows: Sequence[Row]) -> Images:
        """Rows with the numbers of their classes."""
        return label_images(self.project, rows, self.classes, self.preprocess)


def read_training_data(params: TrainParams, model: ModelParams, image: ImageParams, project: Project) -> TrainingData:
    """Read the split and sort its rows; refuse settings that the data cannot serve.

    Args:
        params: the section `train`.
        model: the section `model`.
        image: the section `image`.
        project: where the split lies.

    Raises:
        DataError: fewer than two classes, or no training image.
        LeakageError: a group sits on two sides.
        ParamsError: settings that do not go with each other, or that the data cannot serve.
    """
    refuse_unfit_adaptation(params, model)
    rows = read_split_without_leaks(project)
    classes = manifest.class_names(rows)
    if len(classes) < 2:
        raise DataError(f"{project.split_csv}: found one class, {classes[0]!r}; expected at least 2")
    sides = {side: [row for row in rows if row.kept and row.split == side] for side in ("train", "val", "test")}
    if not sides["train"]:
        raise DataError(f"{project.split_csv}: no kept training rows; expected at least one")
    estimate = choose_estimate(params, model, rows)
    refit = choose_refit(params, estimate)
    in_folds = [row for row in rows if row.fold is not None] if estimate == "folds" else []
    data = TrainingData(project, sides, in_folds, estimate, refit, classes, build_preprocess(model, image))
    _refuse_unfit_settings(params, data)
    return data


def _refuse_unfit_settings(params: TrainParams, data: TrainingData) -> None:
    """Refuse settings that this data cannot serve.

    Raises:
        ParamsError: a tracker is not installed, a side that is to be measured has no image, or the loss is for another
            number of classes.
    """
    refuse_missing_trackers(params)
    n_classes = len(data.classes)
    if not data.sides["val"] and (params.keep == "best_val" or params.patience_epochs is not None):
        raise ParamsError("train.keep: best_val and train.patience_epochs need validation clips; set split.val")
    if not data.sides["test"] and watches_test(params):
        raise ParamsError("train.keep: best_test and train.watch_test need test clips; found no kept test row")
    if params.test_called == "val" and data.sides["val"] and watches_test(params):
        raise ParamsError("train.test_called: the validation clips are called val; use test, or set split.val: null")
    if isinstance(params.loss, BinaryCrossEntropyLoss) and n_classes != 2:
        raise ParamsError(f"train.loss: binary_cross_entropy is for 2 classes; found {n_classes}; use cross_entropy")
    if isinstance(params.loss, FocalLoss) and params.loss.alpha is not None and len(params.loss.alpha) != n_classes:
        raise ParamsError(
            f"train.loss.alpha: found {len(params.loss.alpha)} weights; expected {n_classes}, one per class"
        )


def watches_test(params: TrainParams) -> bool:
    """Whether the test side is measured after each epoch."""
    return params.watch_test or params.keep == "best_test"
