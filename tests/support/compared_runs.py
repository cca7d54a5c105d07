"""Planted runs of a study, and the table that a comparison makes of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping

from pipeline.base.project import Project
from pipeline.tools.compare.compare import compare_study
from tests.support.experiment_project import write_recipe

RECIPE = """
params: {{}}
rows:
  鳞片 | a: {{train: {{lr: 0.1}}}}
  b: {{train: {{lr: 0.2}}}}
compare:
  columns: [{columns}]
  figures:
    - {{title: "figure 1: $鳞片$", curves: [train/loss, test/accuracy], rows: [鳞片 | a, b]}}
    - {{title: figure 2, curves: [val/mse], rows: [b]}}
"""
EVALUATION = {
    "n_frames": 40,
    "n_groups": 4,
    "protocol": "grouped",
    "optimistic": None,
    "top1": 0.875,
    "group_top1": 1.0,
}
LOSSES = [1.0, 0.5, 0.25]


def reports(
    curves: Mapping[str, list[float]], network: object = None, kept: object = None, **evaluation: object
) -> dict[str, str]:
    """The report files of a run, by path; `kept` are the metrics of the kept epoch, by side."""
    files = {"reports/evaluate.json": json.dumps(EVALUATION | evaluation)}
    for name, values in curves.items():
        lines = [f"step\t{name.split('/')[1]}", *(f"{step}\t{value}" for step, value in enumerate(values))]
        files[f"reports/train/plots/metrics/{name}.tsv"] = "\n".join(lines) + "\n"
    if kept is not None:
        files["reports/train/metrics.json"] = json.dumps({"kept": kept})
    if network is not None:
        files["reports/train/network.json"] = json.dumps(network)
    return files


def compared_table(project: Project, columns: str, name: str = "tiny") -> tuple[str, dict[str, dict[str, str]]]:
    """Compare a study; give the Markdown, and the CSV by row and column."""
    write_recipe(project, RECIPE.format(columns=columns), name)
    compare_study(name, project)
    folder = project.compare_reports / name
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["row"]: row for row in csv.DictReader(file)}
    return (folder / "table.md").read_text(encoding="utf-8"), rows
