"""The charts of an evaluation: numbers in, PNG files out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.draw.charts import chart, chart_text
from pipeline.evaluate.evaluation import ClassGroups, ClassNumbers
from pipeline.evaluate.projection import Projection

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MOST_NUMBERED = 20  # classes whose confusion is written into its cells
MOST_NAMED = 60  # classes whose names stand at the axes
MOST_BARS = 60  # classes
_MOST_INCHES = 14.0
_IN_LEGEND = 10  # classes, in as many colours
_LETTERS = 24  # of a class name
_MARKERS = {"train": "o", "val": "s", "test": "^"}  # by side
_MEASURES = ("precision", "recall", "f1")

Points = Sequence[Mapping[str, Any]]  # rows of a table in reports/plots/


def draw_confusion(classes: Sequence[str], counts: Sequence[Sequence[int]], shares: Any, path: Path) -> None:
    """Draw counts and shares of the true class side by side, truth by row, answer by column.

    Args:
        classes: the names of n classes.
        counts: (n, n) frames.
        shares: (n, n) counts as shares of their row.
        path: the PNG file.
    """
    side = min(2.2 + 0.4 * len(classes), _MOST_INCHES / 2)
    with chart(path, 2 * side, side) as figure:
        left, right = figure.subplots(1, 2)
        left.set_title("frames")
        _draw_matrix(left, np.asarray(counts, float), classes, "{:.0f}")
        right.set_title("share of the true class")
        _draw_matrix(right, np.asarray(shares, float), classes, "{:.2f}")


def _draw_matrix(axes: Axes, cells: Any, classes: Sequence[str], form: str) -> None:
    most = cells.max() or 1.0
    axes.imshow(cells, cmap="Blues", vmin=0, vmax=most)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    named = classes if len(classes) <= MOST_NAMED else ()
    size = 9 if len(classes) <= 10 else 6
    axes.set_xticks(range(len(named)), [_short(name) for name in named], rotation=90, fontsize=size)
    axes.set_yticks(range(len(named)), [_short(name) for name in named], fontsize=size)
    if len(classes) > MOST_NUMBERED:
        return
    for (row, column), value in np.ndenumerate(cells):
        colour = "white" if value > most / 2 else "black"
        axes.text(column, row, form.format(value), ha="center", va="center", color=colour, fontsize=size)


def draw_rankings(roc: Points, precision_recall: Points, path: Path) -> None:
    """Draw ROC and precision-recall of each class against the rest, and of all answers pooled.

    Args:
        roc: the points of `metrics.roc_points`.
        precision_recall: the points of `metrics.precision_recall_points`.
        path: the PNG file.
    """
    with chart(path, 10, 4.6) as figure:
        left, right = figure.subplots(1, 2)
        _draw_by_class(left, roc, "false_positive_rate", "true_positive_rate")
        _draw_by_class(right, precision_recall, "recall", "precision")
        left.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
        left.set_title("ROC")
        right.set_title("precision and recall")
        figure.legend(*left.get_legend_handles_labels(), loc="outside right upper", fontsize="small")


def _draw_by_class(axes: Axes, points: Points, x: str, y: str) -> None:
    """A line per class; many classes get thin lines without names."""
    names = list(dict.fromkeys(point["class"] for point in points))
    *classes, pooled = names  # the pooled answers come last
    for name in names:
        of_class = [point for point in points if point["class"] == name]
        style: dict[str, Any] = {"label": chart_text(name)}
        if name == pooled:
            style |= {"color": "black", "linewidth": 2}
        elif len(classes) > _IN_LEGEND:
            style = {"color": "steelblue", "linewidth": 0.5, "alpha": 0.5}
        axes.plot([point[x] for point in of_class], [point[y] for point in of_class], **style)
    axes.set_xlabel(x.replace("_", " "))
    axes.set_ylabel(y.replace("_", " "))
    axes.grid(visible=True, alpha=0.3)


def draw_reliability(bins: Points, path: Path) -> None:
    """Draw accuracy over confidence, with and without the temperature, and below it the frames of each point."""
    with chart(path, 6, 5) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
        for kind, marker in (("uncalibrated", "s"), ("calibrated", "o")):
            of_kind = [row for row in bins if row["class"] == kind]
            confidence, accuracy, frames = (
                [row[name] for row in of_kind] for name in ("confidence", "accuracy", "frames")
            )
            line = upper.plot(confidence, accuracy, marker=marker, label=kind)[0]
            lower.plot(confidence, frames, marker=marker, linestyle="", color=line.get_color())
        upper.set_ylabel("share that is right")
        upper.legend()
        lower.set_xlabel("confidence")
        lower.set_ylabel("frames")
        for axes in (upper, lower):
            axes.grid(visible=True, alpha=0.3)


def draw_classes(per_class: Mapping[str, ClassNumbers], path: Path) -> None:
    """Draw precision, recall and F1 over frames, and the share of clips right with its interval.

    Of many classes the worst are drawn.
    """
    worst = sorted(per_class, key=lambda name: per_class[name].frames.f1)[:MOST_BARS]
    names = [name for name in per_class if name in worst][::-1]
    with chart(path, 10, min(1.6 + 0.35 * len(names), _MOST_INCHES)) as figure:
        frames, clips = figure.subplots(1, 2, sharey=True)
        heights = np.arange(len(names))
        for index, measure in enumerate(_MEASURES):
            values = [getattr(per_class[name].frames, measure) for name in names]
            frames.barh(heights + 0.25 * (1 - index), values, height=0.24, label=measure)
        groups = [per_class[name].groups for name in names]
        reach = np.transpose([_reach(of_class) for of_class in groups])
        clips.errorbar(
            [_share_right(of_class) for of_class in groups], heights, xerr=reach, fmt="o", color="black", capsize=3
        )
        frames.set_yticks(heights, [_short(name) for name in names])
        extent = "" if len(names) == len(per_class) else f", the {len(names)} worst of {len(per_class)} classes"
        frames.set_title(f"frames{extent}")
        clips.set_title("share of clips right, 95 % interval")
        for axes in (frames, clips):
            axes.set_xlim(0, 1.02)
            axes.grid(visible=True, axis="x", alpha=0.3)
        figure.legend(*frames.get_legend_handles_labels(), loc="outside right upper", fontsize="small")


def _share_right(of_class: ClassGroups) -> float:
    return of_class.groups_right / of_class.groups if of_class.groups else math.nan


def _reach(of_class: ClassGroups) -> tuple[float, float]:
    """How far the interval reaches below and above the share."""
    share, interval = _share_right(of_class), of_class.interval
    return (0.0, 0.0) if math.isnan(share) else (max(0.0, share - interval.low), max(0.0, interval.high - share))


def draw_features(projection: Projection, labels: Sequence[str], sides: Sequence[str], path: Path) -> None:
    """Draw every point in the colour of its class and the shape of its side.

    Args:
        projection: n points.
        labels: (n,) the class of each point.
        sides: (n,) the side of each point: train, val or test.
        path: the PNG file.
    """
    first, second = projection.pca_shares
    panels = {f"PCA, {first + second:.0%} of the variance": projection.pca}
    if projection.tsne is not None:
        panels[f"t-SNE, perplexity {projection.perplexity:.3g}"] = projection.tsne
    with chart(path, 5 * len(panels) + 1.6, 5) as figure:
        row = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (title, points) in zip(row, panels.items(), strict=True):
            axes.set_title(title)
            axes.set_xticks(())
            axes.set_yticks(())
            _draw_points(axes, points, labels, sides)
        figure.legend(handles=_legend(labels, sides), loc="outside right upper", fontsize="small")


def _draw_points(axes: Axes, points: Any, labels: Sequence[str], sides: Sequence[str]) -> None:
    colours = _colours(labels)
    for side, marker in _MARKERS.items():
        is_of_side = np.array([side_of_point == side for side_of_point in sides])
        if is_of_side.any():
            of_side = [colours[label] for label, is_drawn in zip(labels, is_of_side, strict=True) if is_drawn]
            x, y = points[is_of_side].T
            axes.scatter(x, y, s=14, c=of_side, marker=marker, linewidths=0, alpha=0.7)


def _legend(labels: Sequence[str], sides: Sequence[str]) -> list[Any]:
    """The shapes of the sides that have points, and the colours of the classes where they can be told apart."""
    from matplotlib.lines import Line2D

    shapes = [
        Line2D([], [], marker=marker, linestyle="", color="grey", label=side)
        for side, marker in _MARKERS.items()
        if side in sides
    ]
    colours = _colours(labels)
    if len(colours) > 2 * _IN_LEGEND:
        return shapes
    return shapes + [
        Line2D([], [], marker="o", linestyle="", color=colour, label=_short(name)) for name, colour in colours.items()
    ]


def _colours(labels: Sequence[str]) -> dict[str, Any]:
    from matplotlib import colormaps

    names = sorted(set(labels))
    if len(names) <= 2 * _IN_LEGEND:
        palette = colormaps["tab10" if len(names) <= _IN_LEGEND else "tab20"]
        return {name: palette(index) for index, name in enumerate(names)}
    return {name: colormaps["hsv"](index / len(names)) for index, name in enumerate(names)}


def draw_curves(curves: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Draw a panel per measure, with a line per side over the epochs."""
    with chart(path, 4.5 * len(curves), 3.6) as figure:
        row = figure.subplots(1, len(curves), squeeze=False)[0]
        for axes, (measure, by_side) in zip(row, curves.items(), strict=True):
            for side, values in by_side.items():
                axes.plot(range(1, len(values) + 1), values, marker="." if len(values) < 30 else None, label=side)
            axes.set_title(measure)
            axes.set_xlabel("epoch")
            axes.locator_params(axis="x", integer=True)
            axes.grid(visible=True, alpha=0.3)
            axes.legend(fontsize="small")


def _short(name: str) -> str:
    """A class name that leaves room for the drawing."""
    text = chart_text(name)
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…"
