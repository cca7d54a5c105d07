"""The columns of a comparison: for each run a value, or the reason why the run has none."""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.base.errors import DataError
from pipeline.tools.studies.dvc_experiments import Experiment, param_value
from pipeline.tools.studies.recipe_schema import CURVES

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
_LAST_OF_CURVE = {"train_loss": "train/loss", "test_loss": "test/loss", "minutes": "train/minutes"}
_SHARES = {"top1", "top5", "group_top1", *_END_OF_INTERVAL, "best_accuracy"}


@dataclass(frozen=True)
class ColumnValue:
    """The value of a run in a column, or the reason why it has none."""

    value: Scalar | None
    reason: str | None = None


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
    def curves(self) -> dict[str, list[float]]:
        """The curves that the run has, by their names in `CURVES`: one value per epoch."""
        return {name: values for name in CURVES if (values := self._curve(name))}

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


def _end_of_interval(end: int, run: StudyRun) -> ColumnValue:
    ends = run.evaluation.get("group_top1_ci95")
    return ColumnValue(ends[end]) if ends else ColumnValue(None, "the run has no interval over clips")


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


def _held_out_accuracy(run: StudyRun) -> list[float]:
    return run.curves.get("test/accuracy") or run.curves.get("val/accuracy") or []


def _best_accuracy(run: StudyRun) -> ColumnValue:
    values = _held_out_accuracy(run)
    return (
        ColumnValue(max(values)) if values else ColumnValue(None, "the run has no curve test/accuracy or val/accuracy")
    )


def _best_epoch(run: StudyRun) -> ColumnValue:
    """The epoch with the highest accuracy, counted from 1; the first one where several are equal."""
    values = _held_out_accuracy(run)
    return ColumnValue(values.index(max(values)) + 1) if values else _best_accuracy(run)


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
    "best_accuracy": _best_accuracy,
    "best_epoch": _best_epoch,
    "stability_loss": functools.partial(_stability, "loss"),
    "stability_acc": functools.partial(_stability, "accuracy"),
}
