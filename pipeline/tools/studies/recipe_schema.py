"""What a recipe's `compare` can ask for: columns of the table, and figures of curves by row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pipeline.base.errors import ParamsError, nearest
from pipeline.base.section import Section, names_beside
from pipeline.params import Params

# Beside these, any dotted param is a column, such as train.lr.
COLUMNS = (
    "parameters", "trained_parameters", "layers", "batch_norm", "residual",
    "top1", "top5", "group_top1", "group_top1_low", "group_top1_high", "auc", "mse", "nll",
    "train_loss", "test_loss", "minutes", "best_accuracy", "best_epoch", "stability_loss", "stability_acc",
)  # fmt: skip
CURVES = (
    *(f"{side}/{name}" for side in ("train", "val", "test") for name in ("loss", "accuracy", "mse")),
    "train/lr", "train/minutes", "train/images_per_second",
)  # fmt: skip
# Of `pipe compare` without a name.
COMMON_COLUMNS = ("top1", "group_top1", "group_top1_low", "group_top1_high", "mse", "train_loss", "minutes")

Name = Annotated[str, Field(min_length=1)]


class FigureParams(Section):
    """One picture: a panel per curve, a line per row."""

    title: Name
    curves: Annotated[tuple[Name, ...], Field(min_length=1)]
    rows: Annotated[tuple[Name, ...], Field(min_length=1)]


class Comparison(Section):
    """The part `compare` of a recipe."""

    columns: Annotated[tuple[Name, ...], Field(min_length=1)]
    figures: tuple[FigureParams, ...]

    def check_names(self, rows: Sequence[str], path: Path) -> None:
        """Refuse names that nothing has.

        Raises:
            ParamsError: a column, curve or row is unknown; the message has the nearest name.
        """
        for column in self.columns:
            if column not in COLUMNS and not is_param(column):
                refuse_unknown(column, [*COLUMNS, *_param_names(column)], f"{path}: compare.columns")
        for figure in self.figures:
            for kind, names, known in (("curves", figure.curves, CURVES), ("rows", figure.rows, rows)):
                for name in names:
                    if name not in known:
                        refuse_unknown(name, known, f"{path}: compare.figures: {figure.title}: {kind}")


def refuse_unknown(name: str, known: Sequence[str], place: str) -> None:
    """Say that there is no such name, and which is the nearest.

    Raises:
        ParamsError: always.
    """
    raise ParamsError(f"{place}: found {name!r}, which is not known; the nearest is {nearest(name, known)!r}")


def is_param(column: str) -> bool:
    """Whether `params.yaml` may have this dotted name."""
    place = column.split(".")
    return len(place) > 1 and all(part in names_beside(Params, place[: depth + 1]) for depth, part in enumerate(place))


def _param_names(column: str) -> list[str]:
    """Dotted names of the section that a column seems to mean."""
    section = column.split(".", maxsplit=1)[0]
    place = [section, ""] if section in Params.model_fields else []
    return [f"{section}.{name}" for name in (names_beside(Params, place) if place else [])]


class Study(Section):
    """A recipe with all its parts."""

    params: dict[str, dict[str, Any]]  # what differs from `params.yaml`, common to all rows
    rows: dict[str, dict[str, dict[str, Any]]]  # what a row's variant differs in from `params`
    compare: Comparison | None
