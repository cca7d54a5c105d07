"""Figures of a comparison show the curves of its rows, and say which curves are missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.base.project import Project
from pipeline.draw.charts import DPI
from pipeline.tools.compare.columns import StudyRun
from pipeline.tools.compare.figures import draw_figure
from pipeline.tools.studies.dvc_experiments import list_experiments
from pipeline.tools.studies.recipe_schema import FigureParams
from tests.support.compared_runs import LOSSES, compared_table, reports
from tests.support.experiment_project import plant_experiment


def test_figures_are_drawn_and_say_what_they_lack(project: Project) -> None:
    plant_experiment(project, "tiny-鳞片-a", reports({"train/loss": LOSSES, "test/accuracy": LOSSES}))
    text, _ = compared_table(project, "top1")
    folder = project.compare_reports / "tiny"
    names = ["figure_1.pdf", "figure_1.png", "figures.tex", "table.csv", "table.md", "table.tex"]
    assert sorted(path.name for path in folder.iterdir()) == names
    with Image.open(folder / "figure_1.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 2 * picture.height
    assert "![figure 1: $鳞片$](figure_1.png)" in text
    assert "- b has not run." in text.split("## figure 1")[1]
    assert "Not drawn." in text.split("## figure 2")[1]


def test_a_figure_differs_with_its_curves_and_letters_without_a_font_are_escaped(
    project: Project, tmp_path: Path
) -> None:
    plant_experiment(project, "one", reports({"train/loss": LOSSES}))
    plant_experiment(project, "two", reports({"train/loss": [1.0, 0.5, 0.75]}))
    runs = [StudyRun(experiment) for experiment in list_experiments(project).values()]
    figure = FigureParams(title="\U00010480 鳞片 _x_ $", curves=("train/loss",), rows=("_a_",))
    for number, rows in enumerate(({"_a_": runs[:1]}, {"_a_": runs[:1]}, {"_a_": runs[1:]}, {"_a_": runs})):
        assert draw_figure(figure, rows, tmp_path / f"{number}.png") == []
    pictures = [(tmp_path / f"{number}.png").read_bytes() for number in range(4)]
    assert pictures[0] == pictures[1]
    assert len(set(pictures)) == 3


@pytest.mark.parametrize(
    ("n_panels", "in_inches"), [(1, (4.5, 3.9)), (3, (13.5, 3.9)), (4, (9.0, 7.4)), (5, (13.5, 7.4))]
)
def test_panels_break_into_rows_so_that_a_page_can_hold_them(
    n_panels: int, in_inches: tuple[float, float], project: Project, tmp_path: Path
) -> None:
    curves = ("train/loss", "test/loss", "train/accuracy", "test/accuracy", "val/loss")[:n_panels]
    plant_experiment(project, "one", reports(dict.fromkeys(curves, LOSSES)))
    runs = {"one": [StudyRun(experiment) for experiment in list_experiments(project).values()]}
    draw_figure(FigureParams(title="all", curves=curves, rows=("one",)), runs, tmp_path / "all.png")
    with Image.open(tmp_path / "all.png") as picture:
        assert picture.size == tuple(round(DPI * inches) for inches in in_inches)


def test_rows_with_one_curve_are_both_seen(project: Project, tmp_path: Path) -> None:
    plant_experiment(project, "one", reports({"train/loss": LOSSES}))
    runs = [StudyRun(experiment) for experiment in list_experiments(project).values()]
    colours = []
    for rows in (("one",), ("one", "same")):
        path = tmp_path / f"{len(rows)}.png"
        draw_figure(FigureParams(title="x", curves=("train/loss",), rows=rows), dict.fromkeys(rows, runs), path)
        with Image.open(path) as picture:
            pixels_hwc = np.array(picture.convert("RGB"))[:, :240].astype(int)  # without the legend on the right
        blue_over_red = pixels_hwc[..., 2] - pixels_hwc[..., 0]
        colours.append((int((blue_over_red > 100).sum()), int((blue_over_red < -100).sum())))
    assert colours[0][0] > 100
    assert colours[0][1] == 0
    assert min(colours[1]) > 50  # blue shows between the dashes of orange
