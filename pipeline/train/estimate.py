"""Which clips judge the network, and which it learns from."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.base.errors import ParamsError
from pipeline.base.manifest import Row
from pipeline.base.progress import tell
from pipeline.network.checkpoint import Estimate, Refit
from pipeline.network.params import ModelParams
from pipeline.train.params import TrainParams


def choose_estimate(params: TrainParams, model: ModelParams, rows: Sequence[Row]) -> Estimate:
    """Choose folds where a frozen backbone makes them cheap, else the test side; `train.estimate` may say which.

    Args:
        params: the section `train`.
        model: the section `model`.
        rows: of `data/split.csv`.

    Raises:
        ParamsError: folds are asked for, and the data or another setting does not go with them.
    """
    if params.estimate == "holdout":
        return "holdout"
    obstacle = _obstacle_to_folds(params, model, rows)
    if obstacle is None:
        return "folds"
    if params.estimate == "folds":
        raise ParamsError(f"train.estimate: folds does not go with this run: {obstacle}; set train.estimate: holdout")
    tell(f"the test side judges the network, not folds: {obstacle}")
    return "holdout"


def choose_refit(params: TrainParams, estimate: Estimate) -> Refit:
    """Choose whether the shipped head learns from the test side too, which only folds leave free.

    Raises:
        ParamsError: all clips are asked for, and the test side is needed to judge.
    """
    if params.refit == "all" and estimate == "holdout":
        raise ParamsError("train.refit: all needs folds: with train.estimate: holdout the test side would be learned")
    if params.refit == "auto":
        return "all" if estimate == "folds" else "none"
    return params.refit


def _obstacle_to_folds(params: TrainParams, model: ModelParams, rows: Sequence[Row]) -> str | None:
    """The first reason why folds cannot judge this run."""
    obstacles = (
        (all(row.fold is None for row in rows), "data/split.csv has no folds (reports/split.json says why)"),
        (model.freeze != "all", "model.freeze is not all, so each fold would need a backbone of its own"),
        (params.adapt == "tune", "train.adapt is tune, so each fold would need blocks of its own"),
        (bool(params.online) and not params.cached_views, "train.cached_views is 0, so features are not kept"),
        (params.keep != "last", f"train.keep: {params.keep} chooses by a side that no fold has"),
        (params.patience_epochs is not None, "train.patience_epochs watches a side that no fold has"),
        (params.watch_test, "train.watch_test watches a side that no fold has"),
    )
    return next((words for stands_in_the_way, words in obstacles if stands_in_the_way), None)
