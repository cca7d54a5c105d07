"""Figures of a comparison: a panel per curve, a line per row, a band of one standard deviation where seeds repeat."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.draw.charts import chart_text, figure_in_our_look, save_figure
from pipeline.tools.compare.columns import StudyRun
from pipeline.tools.compare.roc import false_positive_rates, roc_area
from pipeline.tools.studies.recipe_schema import ROC, FigureParams

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_PANEL_INCHES = (4.5, 3.5)
_MOST_COLUMNS = 3  # of panels; with more, a figure as wide as a page has letters that nobody can read
_LINE_STYLES = ("-", "--", "-.", ":")  # by row, so that a line shows through another one that lies on it


def draw_figure(figure: FigureParams, rows: Mapping[str, Sequence[StudyRun]], path: Path) -> list[str]:
    """Draw a figure of a recipe as a PNG file and as a PDF file beside it. The same curves give the same bytes.

    Args:
        figure: the title, the curves and the rows that the recipe asks for.
        rows: the runs of each row of the study that has run, by the row's name.
        path: the PNG file; neither file is written where no row has any of the curves.

    Returns:
        One sentence for each row that has not run, and for each curve that a row lacks.
    """
    lacking = [f"{row} has not run." for row in figure.rows if row not in rows]
    panels = {curve: _lines(curve, figure.rows, rows) for curve in figure.curves}
    lacking += [
        f"{row} has no curve {curve}." for curve in figure.curves for row in figure.rows
        if row in rows and row not in panels[curve]
    ]  # fmt: skip
    if not any(panels.values()):
        return lacking
    width, height = _PANEL_INCHES
    n_columns = min(len(panels), _MOST_COLUMNS) if len(panels) != 4 else 2
    n_rows = math.ceil(len(panels) / n_columns)
    with figure_in_our_look(width * n_columns, height * n_rows + 0.4) as canvas:
        canvas.suptitle(chart_text(figure.title))
        for index, (curve, lines) in enumerate(panels.items(), start=1):
            axes = canvas.add_subplot(n_rows, n_columns, index)
            areas = {row: _area_text(rows[row]) if curve == ROC else "" for row in lines}
            _draw_panel(axes, curve, lines, areas)
        for file in (path, path.with_suffix(".pdf")):
            save_figure(canvas, file)
    return lacking


def _lines(curve: str, names: Sequence[str], rows: Mapping[str, Sequence[StudyRun]]) -> dict[str, list[list[float]]]:
    """For each row that has the curve: per point the values of its runs, up to the last epoch that all runs have."""
    curves_of = {row: [run.curves[curve] for run in rows[row] if curve in run.curves] for row in names if row in rows}
    return {row: [list(point) for point in zip(*curves, strict=False)] for row, curves in curves_of.items() if curves}


def _area_text(runs: Sequence[StudyRun]) -> str:
    """The area under a row's ROC, as its label has it; empty where no run has one."""
    areas = [area for run in runs if (area := roc_area(run.evaluation)) is not None]
    return f", AUC {statistics.fmean(areas):.3f}" if areas else ""


def _draw_panel(axes: Axes, curve: str, lines: Mapping[str, list[list[float]]], after_label: Mapping[str, str]) -> None:
    """Draw the lines of a curve over the epochs, or those of the ROC over the false positive rate."""
    drawn, labels = [], []
    for index, (row, points) in enumerate(lines.items()):
        x = false_positive_rates() if curve == ROC else range(1, len(points) + 1)
        means = [statistics.fmean(values) for values in points]
        style = _LINE_STYLES[index % len(_LINE_STYLES)]
        drawn += axes.plot(x, means, style, marker="." if len(means) < 30 else None)
        n_runs = len(points[0])
        labels.append(chart_text((f"{row} ({n_runs} runs)" if n_runs > 1 else row) + after_label[row]))
        if n_runs > 1:
            spread = [statistics.stdev(values) for values in points]
            low, high = ([m + sign * s for m, s in zip(means, spread, strict=True)] for sign in (-1, 1))
            axes.fill_between(x, low, high, color=drawn[-1].get_color(), alpha=0.2, linewidth=0)
    axes.grid(visible=True, alpha=0.3)
    if curve == ROC:
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    else:
        axes.locator_params(axis="x", integer=True)
    axes.set_title("ROC" if curve == ROC else curve)
    axes.set_xlabel("false positive rate" if curve == ROC else "epoch")
    axes.set_ylabel("true positive rate" if curve == ROC else "")
    if drawn:
        axes.legend(drawn, labels, fontsize="small")
