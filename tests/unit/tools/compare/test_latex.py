"""Tables and figures for a paper: every letter is printed as it is, and nothing breaks the table."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.base.project import Project
from pipeline.tools.compare.compare import compare_study
from pipeline.tools.compare.latex import escape_latex, figures_latex, table_latex
from tests.support.compared_runs import LOSSES, reports
from tests.support.experiment_project import plant_experiment, write_recipe

HOSTILE = r"a_b & 50 % of {x} \ $y$ #1 ~ ^ <z> | ±"
RECIPE = """
params: {}
rows: {a_1 & 2: {train: {lr: 0.1}}, b: {train: {lr: 0.2}}}
compare:
  caption: 表 3 的标题 50%
  columns: [top1, train_loss]
  figures:
    - {title: first, caption: 图 5 的标题, curves: [train/loss], rows: [a_1 & 2]}
    - {title: second, curves: [val/mse], rows: [b]}
    - {title: third, curves: [train/loss], rows: [b]}
"""


def test_letters_that_mean_something_to_latex_are_escaped() -> None:
    escaped = escape_latex(HOSTILE)
    without = re.sub(r"\\text\w+\{\}|\\[{}&%$#_]|\$\\pm\$", "", escaped)
    assert not re.search(r"[\\{}&%$#_~^<>|]", without)
    assert escape_latex("a\n\nb") == "a b"  # an empty line would end the paragraph, and the row with it


def test_a_row_has_as_many_fields_as_the_table_has_columns() -> None:
    text = table_latex(HOSTILE, ["row", "x_1"], [["a & b", "[1]"], ["c", "100 %"]])
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 3
    assert all(len(re.findall(r"(?<!\\)&", row)) == 1 for row in rows)
    assert r"\begin{tabular}{lr}" in text
    assert rows[1].strip() == r"{a \& b} & {[1]} \\"


def test_a_study_is_written_with_the_captions_of_its_text(project: Project) -> None:
    for lr, name in ((0.1, "paper-a-1-2"), (0.2, "paper-b")):
        files = reports({"train/loss": LOSSES}, top1=0.5)
        plant_experiment(project, name, files | {"reports/predictions.csv": predictions()}, lr=lr)
    write_recipe(project, RECIPE, "paper")
    compare_study("paper", project)
    folder = project.compare_reports / "paper"
    table, figures, page = ((folder / name).read_text("utf-8") for name in ("table.tex", "figures.tex", "table.md"))
    assert r"\caption{表 3 的标题 50\%}" in table
    assert r"{a\_1 \& 2} & {1} & {50.0 \%} & {0.2500} \\" in table
    assert re.findall(r"\\includegraphics\{(.*?)\}", figures) == ["figure_1.pdf", "figure_3.pdf"]
    assert re.findall(r"\\caption\{(.*)\}", figures) == ["图 5 的标题", "third"]
    assert "图 5 的标题" in page
    assert "表 3 的标题 50%" in page
    assert r"{b} & {a\_1 \& 2} & {1} & {0} & {0} & {1} & {1} & {+0.0} & {}" in (folder / "pairs.tex").read_text("utf-8")
    for name in ("figure_1.pdf", "figure_3.pdf"):
        assert (folder / name).read_bytes().startswith(b"%PDF-")
    assert not (folder / "figure_2.pdf").exists()


def predictions() -> str:
    return "path,group,label,predicted,confidence,kept\na.jpg,a,a,a,0.9,true\n"


def test_latex_takes_the_table_and_the_figures(project: Project, tmp_path: Path) -> None:
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("no pdflatex here to read the table")
    plant_experiment(project, "paper-a-1-2", reports({"train/loss": LOSSES}))
    write_recipe(project, RECIPE.replace("表 3 的标题", "table 3").replace("图 5 的标题", "figure 5"), "paper")
    compare_study("paper", project)
    folder = project.compare_reports / "paper"
    (folder / "hostile.tex").write_text(table_latex(HOSTILE, [HOSTILE, "b"], [[HOSTILE, HOSTILE]]), encoding="utf-8")
    (folder / "none.tex").write_text(figures_latex([]), encoding="utf-8")
    inputs = "".join(rf"\input{{{name}}}" for name in ("table", "figures", "hostile", "none"))
    packages = r"\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx}"
    text = rf"\documentclass{{article}}{packages}\begin{{document}}{inputs}\end{{document}}"
    (folder / "paper.tex").write_text(text, encoding="utf-8")
    command = [program, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout[-2000:]
