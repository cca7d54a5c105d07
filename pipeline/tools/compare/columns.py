"""The columns of a comparison: each a value of one run, or the reason why that run has none."""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.base.errors import DataError
from pipeline.tools.studies.dvc_experiments import Experiment, param
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
class Value:
    """What a run has in a column; without it, why not."""

    value: Scalar | None
    reason: str | None = None


@dataclass(frozen=True)
class Run:
    """An experiment with its reports."""

    experiment: Experiment

    @functools.cached_property
    def evaluation(self) -> dict[str, Any]:
        """`reports/evaluate.json`."""
        return self.experiment.json(self.experiment.project.evaluate_json) or {}

    @functools.cached_property
    def network(self) -> dict[str, Any] | None:
        """`reports/train/network.json`; None where training did not write it."""
        return self.experiment.json(self.experiment.project.train_reports / "network.json")

    @functools.cached_property
    def curves(self) -> dict[str, list[float]]:
        """A value per epoch, by the names in `CURVES`; those that the run has."""
        return {name: values for name in CURVES if (values := self._curve(name))}

    @property
    def loss(self) -> dict[str, Any]:
        """What the training loss was, as in `params.yaml`."""
        return dict(param(self.experiment.params, "train.loss") or {})

    def _curve(self, name: str) -> list[float]:
        """The last column of DVCLive's table.

        Raises:
            DataError: a value is no finite number.
        """
        path = self.experiment.project.train_reports / "plots" / "metrics" / f"{name}.tsv"
        rows = list(csv.reader((self.experiment.text(path) or "").splitlines(), delimiter="\t"))[1:]
        try:
            values = [float(row[-1]) for row in rows]
        except (ValueError, IndexError) as error:
            raise DataError(f"{self.experiment.name}: {path.name}: found no number ({error})") from error
        if not all(math.isfinite(value) for value in values):
            raise DataError(f"{self.experiment.name}: {name}: a value of the curve is not finite")
        return values


def value_of(column: str, run: Run) -> Value:
    """The value of a column that `Comparison.check_names` knows."""
    if column in _NETWORK:
        return _of_network(column, run)
    if column in _EVALUATION:
        return _of_evaluation(column, run)
    if column in _END_OF_INTERVAL:
        ends = run.evaluation.get("group_top1_ci95")
        return Value(ends[_END_OF_INTERVAL[column]]) if ends else Value(None, "the run has no interval over clips")
    if column in _LAST_OF_CURVE:
        return _last(_LAST_OF_CURVE[column], run)
    if column in _COMPUTED:
        return _COMPUTED[column](run)
    return _of_params(column, run)


def is_share(column: str) -> bool:
    """Whether the column is a share of right answers, printed in percent."""
    return column in _SHARES


def hangs_on_training_loss(column: str) -> bool:
    """Whether the column's numbers can only be set side by side where the training loss is the same."""
    return column in ("train_loss", "stability_loss", "train/loss")


def _of_network(column: str, run: Run) -> Value:
    if run.network is None:
        return Value(None, "the run has no reports/train/network.json")
    return Value(run.network.get(_NETWORK[column]))


def _of_evaluation(column: str, run: Run) -> Value:
    value = run.evaluation.get(column)
    return Value(value, None if value is not None else run.evaluation.get(f"{column}_reason"))


def _of_params(column: str, run: Run) -> Value:
    value = param(run.experiment.params, column)
    return Value(value if isinstance(value, Scalar) else None if value is None else in_words(value))


def in_words(value: Any) -> str:
    """A param in one line, such as `name focal, gamma 0.25`."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {in_words(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return "[" + ", ".join(in_words(inner) for inner in value) + "]"
    return "null" if value is None else str(value)


def _last(curve: str, run: Run) -> Value:
    values = run.curves.get(curve)
    return Value(values[-1]) if values else Value(None, f"the run has no curve {curve}")


def _judged_accuracy(run: Run) -> list[float]:
    return run.curves.get("test/accuracy") or run.curves.get("val/accuracy") or []


def _best_accuracy(run: Run) -> Value:
    values = _judged_accuracy(run)
    return Value(max(values)) if values else Value(None, "the run has no curve test/accuracy or val/accuracy")


def _best_epoch(run: Run) -> Value:
    """Counted from 1; of equals the first."""
    values = _judged_accuracy(run)
    return Value(values.index(max(values)) + 1) if values else _best_accuracy(run)


def _stability(name: str, run: Run) -> Value:
    """Mean over epochs of |train - test| (study 003)."""
    training, test = (run.curves.get(f"{side}/{name}") for side in ("train", "test"))
    if not training or not test:
        missing = "train" if not training else "test"
        return Value(None, f"the run has no curve {missing}/{name}")
    if len(training) != len(test):
        return Value(None, f"train/{name} has {len(training)} epochs and test/{name} {len(test)}")
    return Value(sum(abs(a - b) for a, b in zip(training, test, strict=True)) / len(training))


_COMPUTED: dict[str, Callable[[Run], Value]] = {
    "best_accuracy": _best_accuracy,
    "best_epoch": _best_epoch,
    "stability_loss": functools.partial(_stability, "loss"),
    "stability_acc": functools.partial(_stability, "accuracy"),
}
