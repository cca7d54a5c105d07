"""Figures of a comparison: a panel per curve, a line per row, a band of one standard deviation where seeds repeat."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.draw.charts import chart, chart_text
from pipeline.tools.compare.columns import StudyRun
from pipeline.tools.studies.recipe_schema import FigureParams

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_PANEL_INCHES = (4.5, 3.5)


def draw_figure(figure: FigureParams, rows: Mapping[str, Sequence[StudyRun]], path: Path) -> list[str]:
    """Draw a figure of a recipe as a PNG file. The same curves give the same bytes.

    Args:
        figure: the title, the curves and the rows that the recipe asks for.
        rows: the runs of each row of the study that has run, by the row's name.
        path: the file; it is not written where no row has any of the curves.

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
    with chart(path, width * len(panels), height + 0.4) as canvas:
        canvas.suptitle(chart_text(figure.title))
        for axes, (curve, lines) in zip(canvas.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
            _draw_panel(axes, curve, lines)
    return lacking


def _lines(curve: str, names: Sequence[str], rows: Mapping[str, Sequence[StudyRun]]) -> dict[str, list[list[float]]]:
    """For each row that has the curve: per epoch the values of its runs, up to the last epoch that all runs have."""
    curves_of = {row: [run.curves[curve] for run in rows[row] if curve in run.curves] for row in names if row in rows}
    return {row: [list(epoch) for epoch in zip(*curves, strict=False)] for row, curves in curves_of.items() if curves}


def _draw_panel(axes: Axes, curve: str, lines: Mapping[str, list[list[float]]]) -> None:
    drawn, labels = [], []
    for row, epochs in lines.items():
        x = range(1, len(epochs) + 1)
        means = [statistics.fmean(values) for values in epochs]
        drawn += axes.plot(x, means, marker="." if len(means) < 30 else None)
        n_runs = len(epochs[0])
        labels.append(chart_text(f"{row} ({n_runs} runs)" if n_runs > 1 else row))
        if n_runs > 1:
            spread = [statistics.stdev(values) for values in epochs]
            low, high = ([m + sign * s for m, s in zip(means, spread, strict=True)] for sign in (-1, 1))
            axes.fill_between(x, low, high, color=drawn[-1].get_color(), alpha=0.2, linewidth=0)
    axes.set_title(curve)
    axes.set_xlabel("epoch")
    axes.grid(visible=True, alpha=0.3)
    axes.locator_params(axis="x", integer=True)
    if drawn:
        axes.legend(drawn, labels, fontsize="small")
