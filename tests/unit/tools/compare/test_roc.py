"""The ROC of a run is one curve, and the rows of a study share a panel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.evaluate.dvc_tables import write_tables
from pipeline.evaluate.metrics import roc_areas, roc_points
from pipeline.tools.compare.columns import StudyRun
from pipeline.tools.compare.figures import draw_figure
from pipeline.tools.compare.roc import false_positive_rates, roc_area, roc_curve
from pipeline.tools.studies.dvc_experiments import list_experiments
from pipeline.tools.studies.recipe_schema import FigureParams
from tests.support.compared_runs import LOSSES, reports
from tests.support.experiment_project import plant_experiment


def table_of(n_classes: int, seed: int, folder: Path) -> tuple[str, dict[str, Any]]:
    """The table that `pipe evaluate` writes for random answers, and the areas that its report states."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(n_classes, size=400)
    scores = generator.random((400, n_classes)) + (truth[:, None] == np.arange(n_classes))
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    classes = [f"class {number}" for number in range(n_classes)]
    write_tables({"roc": roc_points(truth, probabilities, classes)}, folder)
    areas = roc_areas(truth, probabilities, classes).to_json()
    return (folder / "roc.csv").read_text(encoding="utf-8"), {"roc_auc": areas}


@pytest.mark.parametrize("n_classes", [2, 5])
def test_the_area_of_the_legend_is_that_below_the_curve(n_classes: int, tmp_path: Path) -> None:
    table, evaluation = table_of(n_classes, 0, tmp_path)
    curve = roc_curve(table, "a run")
    assert np.trapezoid(curve, false_positive_rates()) == pytest.approx(roc_area(evaluation), abs=0.005)
    assert roc_area(evaluation) == pytest.approx(evaluation["roc_auc"]["macro"])
    assert roc_area({}) is None
    assert (curve[0], curve[-1]) == (0.0, 1.0)
    assert curve == sorted(curve)


def test_of_two_classes_the_second_is_shown(tmp_path: Path) -> None:
    truth = np.array([0] * 6 + [1] * 4)
    positive = np.array([0.1, 0.2, 0.3, 0.6, 0.2, 0.4, 0.5, 0.7, 0.9, 0.8])
    probabilities = np.column_stack([1 - positive, positive])
    write_tables({"roc": roc_points(truth, probabilities, ["normal", "potholes"])}, tmp_path)
    curve = roc_curve((tmp_path / "roc.csv").read_text(encoding="utf-8"), "a run")
    assert roc_area({"roc_auc": {"per_class": {"normal": 0.25, "potholes": 0.75}}}) == 0.75
    assert np.trapezoid(curve, false_positive_rates()) == pytest.approx(roc_auc_score(truth, positive), abs=0.005)
    assert curve[20] == pytest.approx(0.75)  # at a tenth: three of four potholes before the first false alarm


def test_a_run_without_the_table_has_no_curve_and_a_broken_table_is_refused() -> None:
    assert roc_curve(None, "a run") == []
    header = "class,false_positive_rate,true_positive_rate\n"
    for table in ("class,point\na,0\n", f"{header}a,0.0,high\n", f"{header}a,0.0\n", f'{header}"a,0.0,0.5\n'):
        with pytest.raises(DataError, match=r"tiny-b: roc\.csv: found a row without a rate"):
            roc_curve(table, "tiny-b: roc.csv")


def test_all_rows_of_a_study_are_in_one_panel(project: Project, tmp_path: Path) -> None:
    for seed, name in enumerate(("one", "two", "three")):
        table, evaluation = table_of(2, seed, tmp_path)
        files = reports({"train/loss": LOSSES}, **evaluation) | {"reports/plots/roc.csv": table}
        plant_experiment(project, name, files, seed=seed)
    plant_experiment(project, "without", reports({"train/loss": LOSSES}), seed=3)
    runs = {name: [StudyRun(experiment)] for name, experiment in list_experiments(project).items()}
    figure = FigureParams(title="ROC of all rows", curves=("roc",), rows=("one", "two", "three", "without"))
    assert draw_figure(figure, runs, tmp_path / "all.png") == ["without has no curve roc."]
    fewer = {name: runs[name] for name in ("one", "two")}
    assert draw_figure(figure, fewer, tmp_path / "two.png") == ["three has not run.", "without has not run."]
    seeds = {"one": [*runs["one"], *runs["two"]]}  # two runs of a row: their mean, and a band
    assert len(draw_figure(figure, seeds, tmp_path / "seeds.png")) == 3
    pictures = [(tmp_path / f"{name}.png").read_bytes() for name in ("all", "two", "seeds")]
    assert len(set(pictures)) == 3
