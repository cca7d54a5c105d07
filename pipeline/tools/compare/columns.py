"""The columns of a comparison: for each run a value, or the reason why the run has none."""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.base.errors import DataError
from pipeline.tools.compare.judged_clips import digest_of_clips
from pipeline.tools.compare.published_networks import published_network
from pipeline.tools.compare.roc import roc_curve
from pipeline.tools.studies.dvc_experiments import Experiment, param_value
from pipeline.tools.studies.recipe_schema import CURVES, ROC

Scalar = float | int | bool | str

_NETWORK = {
    "parameters": "n_parameters",
    "trained_parameters": "n_trained_parameters",
    "layers": "n_layers",
    "batch_norm": "has_batch_norm",
    "residual": "has_residual",
}
_EVALUATION = ("top1", "top5", "group_top1", "auc", "mse", "nll")
_END_OF_INTERVAL = {"group_top1_low": 0, "group_top1_high": 1}
_LAST_OF_CURVE = {
    "train_loss": "train/loss",
    "test_loss": "test/loss",
    "minutes": "train/minutes",
    "caching_minutes": "train/caching_minutes",
}
VALIDATION = ("val_accuracy", "val_loss")
_BEST = ("best_accuracy", "best_epoch")  # of the test side or the validation side
_PUBLISHED = {"published_year": "year", "published_parameters": "parameters", "imagenet_top1": "imagenet_top1"}
_SHARES = {"imagenet_top1", "top1", "top5", "group_top1", *_END_OF_INTERVAL, "val_accuracy", "best_accuracy"}


@dataclass(frozen=True)
class ColumnValue:
    """The value of a run in a column, or the reason why it has none."""

    value: Scalar | None
    reason: str | None = None
    side: str | None = None  # whose curve it is the best point of: val or test


@dataclass(frozen=True)
class StudyRun:
    """An experiment together with the reports that it wrote."""

    experiment: Experiment

    @functools.cached_property
    def evaluation(self) -> dict[str, Any]:
        """`reports/evaluate.json`; empty where the run has none."""
        return self.experiment.json(self.experiment.project.evaluate_json) or {}

    @functools.cached_property
    def network(self) -> dict[str, Any] | None:
        """`reports/train/network.json`; None where training did not write it."""
        return self.experiment.json(self.experiment.project.train_reports / "network.json")

    @functools.cached_property
    def kept(self) -> dict[str, Any]:
        """The metrics of the kept epoch by side, from `reports/train/metrics.json`; empty where the run has none."""
        trained = self.experiment.json(self.experiment.project.train_reports / "metrics.json") or {}
        return dict(trained.get("kept") or {})

    @functools.cached_property
    def predictions(self) -> str | None:
        """The text of `reports/predictions.csv`; None where the run has none."""
        return self.experiment.text(self.experiment.project.predictions_csv)

    @functools.cached_property
    def clips_digest(self) -> str | None:
        """The digest of the clips that judged the run, as `count_judged_runs` has it."""
        return digest_of_clips(self.predictions)

    @property
    def is_out_of_fold(self) -> bool:
        """Whether folds judged the run: every clip by a head that has not seen it. Else the test side did."""
        return self.evaluation.get("estimate") == "folds"

    @functools.cached_property
    def curves(self) -> dict[str, list[float]]:
        """The curves that the run has, by their names in `CURVES`: one value per epoch, or per point of the ROC."""
        curves = {name: values for name in CURVES if name != ROC and (values := self._curve(name))}
        path = self.experiment.project.plots / "roc.csv"
        if roc := roc_curve(self.experiment.text(path), f"{self.experiment.name}: {path.name}"):
            curves[ROC] = roc
        return curves

    @property
    def loss(self) -> dict[str, Any]:
        """The training loss and its settings, as in `params.yaml`."""
        return dict(param_value(self.experiment.params, "train.loss") or {})

    def _curve(self, name: str) -> list[float]:
        """The last column of DVCLive's table; empty where the run has no such table.

        Raises:
            DataError: a value is no finite number.
        """
        path = self.experiment.project.train_reports / "plots" / "metrics" / f"{name}.tsv"
        rows = list(csv.reader((self.experiment.text(path) or "").splitlines(), delimiter="\t"))[1:]
        try:
            values = [float(row[-1]) for row in rows]
        except (ValueError, IndexError) as error:
            raise DataError(
                f"{self.experiment.name}: {path.name}: found a row without a number ({error}); expected one per epoch"
            ) from error
        if not all(math.isfinite(value) for value in values):
            raise DataError(f"{self.experiment.name}: {name}: a value of the curve is not finite")
        return values


def value_of(column: str, run: StudyRun) -> ColumnValue:
    """Look up a column that `CompareSection.check_names` accepts."""
    if column in _NETWORK:
        return _network_value(column, run)
    if column in _EVALUATION:
        return _evaluation_value(column, run)
    if column in _END_OF_INTERVAL:
        return _end_of_interval(_END_OF_INTERVAL[column], run)
    if column in _LAST_OF_CURVE:
        return _last_epoch(_LAST_OF_CURVE[column], run)
    if column in _COMPUTED:
        return _COMPUTED[column](run)
    return _params_value(column, run)


def is_of_evaluation(column: str) -> bool:
    """Whether the column comes from the clips that judged the run: out of fold, or of the test side."""
    return column in _EVALUATION or column in _END_OF_INTERVAL


def has_side(column: str) -> bool:
    """Whether a value of the column is of the test side or of the validation side, run by run."""
    return column in _BEST


def is_share(column: str) -> bool:
    """Whether the column is a share of right answers, printed in percent."""
    return column in _SHARES


def depends_on_training_loss(column: str) -> bool:
    """Whether values of a column or curve are comparable only between runs with the same training loss."""
    return column in ("train_loss", "stability_loss", "train/loss")


def _network_value(column: str, run: StudyRun) -> ColumnValue:
    if run.network is None:
        return ColumnValue(None, "the run has no reports/train/network.json")
    return ColumnValue(run.network.get(_NETWORK[column]))


def _evaluation_value(column: str, run: StudyRun) -> ColumnValue:
    value = run.evaluation.get(column)
    return ColumnValue(value, None if value is not None else run.evaluation.get(f"{column}_reason"))


def _validation_value(name: str, run: StudyRun) -> ColumnValue:
    value = (run.kept.get("val") or {}).get(name)
    return ColumnValue(value, None if value is not None else "the run has no validation clips and no folds")


def _end_of_interval(end: int, run: StudyRun) -> ColumnValue:
    ends = run.evaluation.get("group_top1_ci95")
    return ColumnValue(ends[end]) if ends else ColumnValue(None, "the run has no interval over clips")


def _published_value(name: str, run: StudyRun) -> ColumnValue:
    arch = str(param_value(run.experiment.params, "model.arch"))
    published = published_network(arch)
    if published is None:
        return ColumnValue(None, f"torchvision has no weights of {arch}")
    value = getattr(published, name)
    return ColumnValue(value, f"the year of {arch} is not known here" if value is None else None)


def _params_value(column: str, run: StudyRun) -> ColumnValue:
    value = param_value(run.experiment.params, column)
    if value is None or isinstance(value, Scalar):
        return ColumnValue(value)
    return ColumnValue(param_in_words(value))


def param_in_words(value: Any) -> str:
    """Spell a param in one line, such as `name focal, gamma 0.25`."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {param_in_words(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return "[" + ", ".join(param_in_words(inner) for inner in value) + "]"
    return "null" if value is None else str(value)


def _last_epoch(curve: str, run: StudyRun) -> ColumnValue:
    values = run.curves.get(curve)
    return ColumnValue(values[-1]) if values else ColumnValue(None, f"the run has no curve {curve}")


def _held_out_accuracy(run: StudyRun) -> tuple[str, list[float]]:
    """The side whose accuracy the run measured after every epoch, the test side if it did; and the accuracies."""
    side = "test" if "test/accuracy" in run.curves else "val"
    return side, run.curves.get(f"{side}/accuracy", [])


def _best_accuracy(run: StudyRun) -> ColumnValue:
    side, values = _held_out_accuracy(run)
    if not values:
        return ColumnValue(None, "the run has no curve test/accuracy or val/accuracy")
    return ColumnValue(max(values), side=side)


def _best_epoch(run: StudyRun) -> ColumnValue:
    """The epoch with the highest accuracy, counted from 1; the first one where several are equal."""
    side, values = _held_out_accuracy(run)
    return ColumnValue(values.index(max(values)) + 1, side=side) if values else _best_accuracy(run)


def _stability(name: str, run: StudyRun) -> ColumnValue:
    """Mean over epochs of |train - test| (study 003)."""
    training, test = (run.curves.get(f"{side}/{name}") for side in ("train", "test"))
    if not training or not test:
        missing = "train" if not training else "test"
        return ColumnValue(None, f"the run has no curve {missing}/{name}")
    if len(training) != len(test):
        return ColumnValue(None, f"train/{name} has {len(training)} epochs and test/{name} {len(test)}")
    return ColumnValue(sum(abs(a - b) for a, b in zip(training, test, strict=True)) / len(training))


_COMPUTED: dict[str, Callable[[StudyRun], ColumnValue]] = {
    **{column: functools.partial(_published_value, name) for column, name in _PUBLISHED.items()},
    "val_accuracy": functools.partial(_validation_value, "accuracy"),
    "val_loss": functools.partial(_validation_value, "loss"),
    "best_accuracy": _best_accuracy,
    "best_epoch": _best_epoch,
    "stability_loss": functools.partial(_stability, "loss"),
    "stability_acc": functools.partial(_stability, "accuracy"),
}
