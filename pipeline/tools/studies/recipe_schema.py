"""The schema of a study: its params, its rows, and the comparison that it asks for."""

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
    "published_year", "published_parameters", "imagenet_top1",
    "top1", "top5", "group_top1", "group_top1_low", "group_top1_high", "auc", "mse", "nll",
    "val_accuracy", "val_loss", "train_loss", "test_loss", "minutes", "caching_minutes",
    "best_accuracy", "best_epoch", "stability_loss", "stability_acc",
)  # fmt: skip
ROC = "roc"
CURVES = (
    *(f"{side}/{name}" for side in ("train", "val", "test") for name in ("loss", "accuracy", "mse")),
    "train/lr", "train/minutes", "train/caching_minutes", "train/images_per_second", ROC,
)  # fmt: skip
# The columns of `pipe compare` without a name.
COMMON_COLUMNS = ("top1", "group_top1", "group_top1_low", "group_top1_high", "mse", "train_loss", "minutes")

Name = Annotated[str, Field(min_length=1)]


class FigureParams(Section):
    """One figure: a panel per curve, a line per row."""

    title: Name
    caption: Name | None = None  # in the text's own words
    curves: Annotated[tuple[Name, ...], Field(min_length=1)]
    rows: Annotated[tuple[Name, ...], Field(min_length=1)]


class CompareSection(Section):
    """The section `compare` of a recipe: the columns of the table, and the figures."""

    caption: Name | None = None  # of the table, in the text's own words
    columns: Annotated[tuple[Name, ...], Field(min_length=1)]
    figures: tuple[FigureParams, ...]

    def check_names(self, rows: Sequence[str], path: Path) -> None:
        """Refuse columns and curves that do not exist, and rows that the recipe does not have.

        Raises:
            ParamsError: a name is unknown; the message has the nearest known name.
        """
        for column in self.columns:
            if column not in COLUMNS and not is_param(column):
                refuse_unknown(column, [*COLUMNS, *_params_of_section(column)], f"{path}: compare.columns")
        for figure in self.figures:
            for kind, names, known in (("curves", figure.curves, CURVES), ("rows", figure.rows, rows)):
                for name in names:
                    if name not in known:
                        refuse_unknown(name, known, f"{path}: compare.figures: {figure.title}: {kind}")


class Study(Section):
    """A recipe with all its parts."""

    params: dict[str, dict[str, Any]]  # values that differ from `params.yaml`, common to all rows
    rows: dict[str, dict[str, dict[str, Any]]]  # by the row's name: its values that differ from `params`
    compare: CompareSection | None


def refuse_unknown(name: str, known: Sequence[str], location: str) -> None:
    """Report that a name is not known, and which known name is nearest.

    Args:
        name: the unknown name.
        known: all valid names; at least one.
        location: the file and the key that hold the name. The message begins with it.

    Raises:
        ParamsError: always.
    """
    raise ParamsError(f"{location}: found {name!r}, which is not known; the nearest is {nearest(name, known)!r}")


def is_param(column: str) -> bool:
    """Whether `params.yaml` may have this dotted name."""
    keys = column.split(".")
    return len(keys) > 1 and all(key in names_beside(Params, keys[: depth + 1]) for depth, key in enumerate(keys))


def _params_of_section(column: str) -> list[str]:
    """All dotted names of the section that a column names; none where there is no such section."""
    section = column.split(".", maxsplit=1)[0]
    if section not in Params.model_fields:
        return []
    return [f"{section}.{name}" for name in names_beside(Params, [section, ""])]
