"""The charts of an evaluation: numbers in, PNG files out."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.draw.charts import chart, chart_text
from pipeline.evaluate.projection import Projection

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MOST_NUMBERED = 20  # classes whose confusion is written into its cells
MOST_NAMED = 60  # classes whose names stand at the axes
MOST_BARS = 60  # classes
_MOST_INCHES = 14.0
_IN_LEGEND = 10  # classes, in as many colours
_SIDES = {"train": "o", "val": "s", "test": "^"}
_MEASURES = ("precision", "recall", "f1")

Points = Sequence[Mapping[str, Any]]


def draw_confusion(classes: Sequence[str], counts: Sequence[Sequence[int]], shares: Any, path: Path) -> None:
    """Counts and shares of the true class side by side; truth by row, answer by column."""
    side = min(2.2 + 0.4 * len(classes), _MOST_INCHES / 2)
    with chart(path, 2 * side, side) as figure:
        for axes, cells, title in zip(
            figure.subplots(1, 2), (counts, shares), ("frames", "share of the true class"), strict=True
        ):
            axes.set_title(title)
            _draw_matrix(axes, np.asarray(cells, float), classes, "{:.0f}" if title == "frames" else "{:.2f}")


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
    """ROC and precision-recall of each class against the rest, and of all answers pooled."""
    with chart(path, 10, 4.6) as figure:
        left, right = figure.subplots(1, 2)
        _draw_by_class(left, roc, "false_positive_rate", "true_positive_rate")
        _draw_by_class(right, precision_recall, "recall", "precision")
        left.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
        left.set_title("ROC")
        right.set_title("precision and recall")
        figure.legend(*left.get_legend_handles_labels(), loc="outside right upper", fontsize="small")


def _draw_by_class(axes: Axes, points: Points, x: str, y: str) -> None:
    """A line per class; of many classes thin ones without names."""
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
    """Accuracy over confidence, with and without the temperature, and how many frames each point is of."""
    with chart(path, 6, 5) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
        for name, marker in (("uncalibrated", "s"), ("calibrated", "o")):
            of_kind = [one for one in bins if one["class"] == name]
            confidence = [one["confidence"] for one in of_kind]
            line = upper.plot(confidence, [one["accuracy"] for one in of_kind], marker=marker, label=name)[0]
            lower.plot(
                confidence, [one["frames"] for one in of_kind], marker=marker, linestyle="", color=line.get_color()
            )
        upper.set_ylabel("share that is right")
        upper.legend()
        lower.set_xlabel("confidence")
        lower.set_ylabel("frames")
        for axes in (upper, lower):
            axes.grid(visible=True, alpha=0.3)


def draw_classes(per_class: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Precision, recall and F1 over frames, and the share of clips right with its exact interval; of many the worst."""
    worst = sorted(per_class, key=lambda name: per_class[name]["f1"])[:MOST_BARS]
    names = [name for name in per_class if name in worst][::-1]
    with chart(path, 10, min(1.6 + 0.35 * len(names), _MOST_INCHES)) as figure:
        frames, clips = figure.subplots(1, 2, sharey=True)
        places = np.arange(len(names))
        for number, measure in enumerate(_MEASURES):
            values = [per_class[name][measure] for name in names]
            frames.barh(places + 0.25 * (1 - number), values, height=0.24, label=measure)
        shares = [_share_right(per_class[name]) for name in names]
        reach = [_reach(per_class[name], share) for name, share in zip(names, shares, strict=True)]
        clips.errorbar(shares, places, xerr=np.transpose(reach), fmt="o", color="black", capsize=3)
        frames.set_yticks(places, [_short(name) for name in names])
        said = "" if len(names) == len(per_class) else f", the {len(names)} worst of {len(per_class)} classes"
        frames.set_title(f"frames{said}")
        clips.set_title("share of clips right, 95 % exact interval")
        for axes in (frames, clips):
            axes.set_xlim(0, 1.02)
            axes.grid(visible=True, axis="x", alpha=0.3)
        figure.legend(*frames.get_legend_handles_labels(), loc="outside right upper", fontsize="small")


def _share_right(of_class: Mapping[str, Any]) -> float:
    return float(of_class["groups_right"] / of_class["groups"]) if of_class["groups"] else math.nan


def _reach(of_class: Mapping[str, Any], share: float) -> tuple[float, float]:
    low, high = of_class["groups_ci95"]
    return (0.0, 0.0) if math.isnan(share) else (max(0.0, share - low), max(0.0, high - share))


def draw_features(projection: Projection, labels: Sequence[str], sides: Sequence[str], path: Path) -> None:
    """Every point in the colour of its class and the shape of its side."""
    first, second = projection.pca_shares
    panels = {f"PCA, {first + second:.0%} of the variance": projection.pca}
    if projection.tsne is not None:
        panels[f"t-SNE, perplexity {projection.perplexity:.3g}"] = projection.tsne
    with chart(path, 5 * len(panels) + 1.6, 5) as figure:
        for axes, (title, points) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
        ):
            axes.set_title(title)
            axes.set_xticks(())
            axes.set_yticks(())
            _draw_points(axes, points, labels, sides)
        figure.legend(handles=_legend(labels, sides), loc="outside right upper", fontsize="small")


def _draw_points(axes: Axes, points: Any, labels: Sequence[str], sides: Sequence[str]) -> None:
    colours = _colours(labels)
    for side, marker in _SIDES.items():
        chosen = np.array([one == side for one in sides])
        if chosen.any():
            own = [colours[label] for label, one in zip(labels, chosen, strict=True) if one]
            x, y = points[chosen].T
            axes.scatter(x, y, s=14, c=own, marker=marker, linewidths=0, alpha=0.7)


def _legend(labels: Sequence[str], sides: Sequence[str]) -> list[Any]:
    """The shapes of the sides that there are, and the colours of the classes where they can be told apart."""
    from matplotlib.lines import Line2D

    shapes = [
        Line2D([], [], marker=marker, linestyle="", color="grey", label=side)
        for side, marker in _SIDES.items()
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
        return {name: palette(number) for number, name in enumerate(names)}
    return {name: colormaps["hsv"](number / len(names)) for number, name in enumerate(names)}


def read_curves(folder: Path) -> dict[str, dict[str, list[float]]]:
    """Loss and accuracy by side, a value per epoch, of DVCLive's tables below a folder; those that there are."""
    curves: dict[str, dict[str, list[float]]] = {}
    for name in ("loss", "accuracy"):
        for side in _SIDES:
            table = folder / side / f"{name}.tsv"
            if table.is_file():
                rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines(), delimiter="\t"))
                curves.setdefault(name, {})[side] = [float(row[name]) for row in rows]
    return curves


def draw_curves(curves: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """A panel per measure, a line per side."""
    with chart(path, 4.5 * len(curves), 3.6) as figure:
        for axes, (name, by_side) in zip(
            figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True
        ):
            for side, values in by_side.items():
                axes.plot(range(1, len(values) + 1), values, marker="." if len(values) < 30 else None, label=side)
            axes.set_title(name)
            axes.set_xlabel("epoch")
            axes.locator_params(axis="x", integer=True)
            axes.grid(visible=True, alpha=0.3)
            axes.legend(fontsize="small")


def _short(name: str) -> str:
    """A name that leaves room for the drawing."""
    text = chart_text(name)
    return text if len(text) <= 24 else f"{text[:23]}…"
