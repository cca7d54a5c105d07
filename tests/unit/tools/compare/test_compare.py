"""A comparison shows what successful runs have, says what the numbers are, and ranks nothing."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from pipeline.base.errors import DataError, ParamsError
from pipeline.base.project import Project
from pipeline.tools.compare.columns import StudyRun
from pipeline.tools.compare.compare import compare_all, compare_study
from pipeline.tools.compare.figures import draw_figure
from pipeline.tools.studies.dvc_experiments import list_experiments
from pipeline.tools.studies.recipe_schema import FigureParams, is_param
from tests.support.command import run_pipe
from tests.support.experiment_project import experiment_project, plant_experiment, run, write_recipe

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


def reports(curves: Mapping[str, list[float]], network: object = None, **evaluation: object) -> dict[str, str]:
    """The files of a run."""
    files = {"reports/evaluate.json": json.dumps(EVALUATION | evaluation)}
    for name, values in curves.items():
        lines = [f"step\t{name.split('/')[1]}", *(f"{step}\t{value}" for step, value in enumerate(values))]
        files[f"reports/train/plots/metrics/{name}.tsv"] = "\n".join(lines) + "\n"
    if network is not None:
        files["reports/train/network.json"] = json.dumps(network)
    return files


def table(project: Project, columns: str, name: str = "tiny") -> tuple[str, dict[str, dict[str, str]]]:
    """The Markdown, and the CSV by row and column."""
    write_recipe(project, RECIPE.format(columns=columns), name)
    compare_study(name, project)
    folder = project.compare_reports / name
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["row"]: row for row in csv.DictReader(file)}
    return (folder / "table.md").read_text(encoding="utf-8"), rows


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = experiment_project(tmp_path_factory.mktemp("compare") / "project")
    write_recipe(project, RECIPE.format(columns="top1"))
    run(project.root, "git", "add", "--all")
    run(project.root, "git", "commit", "--quiet", "-m", "recipe")
    return project


@pytest.fixture
def project(bare: Project, tmp_path: Path) -> Project:
    return Project(shutil.copytree(bare.root, tmp_path / "project", symlinks=True))


def test_every_column_is_what_its_report_says(project: Project) -> None:
    network = {
        "n_parameters": 1234567, "n_trained_parameters": 1000, "n_layers": 16, "has_batch_norm": False,
        "has_residual": True,
    }  # fmt: skip
    curves = {
        "train/loss": LOSSES,
        "test/loss": [1.5, 0.75, 0.75],
        "train/accuracy": [0.5, 0.75, 1.0],
        "test/accuracy": [0.5, 0.875, 0.875],
        "train/minutes": [0.5, 1.0, 1.75],
    }
    evaluation = {"auc": 0.9, "mse": 0.2, "nll": 0.3, "top5": 1.0, "group_top1_ci95": [0.4, 1.0]}
    plant_experiment(project, "tiny-鳞片-a", reports(curves, network, **evaluation))
    columns = (
        "parameters, trained_parameters, layers, batch_norm, residual, top1, top5, group_top1, group_top1_low, "
        "group_top1_high, auc, mse, nll, train_loss, test_loss,"
        " minutes, best_accuracy, best_epoch, stability_loss, stability_acc, train.lr, train.loss"
    )
    _, rows = table(project, columns)
    found = {name: value for name, value in rows["鳞片 | a"].items() if not name.endswith("_sd")}
    assert found == {
        "row": "鳞片 | a", "runs": "1", "parameters": "1234567", "trained_parameters": "1000", "layers": "16",
        "batch_norm": "False", "residual": "True", "top1": "0.875", "top5": "1.0", "group_top1": "1.0",
        "group_top1_low": "0.4", "group_top1_high": "1.0", "auc": "0.9",
        "mse": "0.2", "nll": "0.3", "train_loss": "0.25", "test_loss": "0.75", "minutes": "1.75",
        "best_accuracy": "0.875", "best_epoch": "2",
        "stability_loss": str((0.5 + 0.25 + 0.5) / 3), "stability_acc": str((0 + 0.125 + 0.125) / 3),
        "train.lr": "0.1", "train.loss": "name cross_entropy, label_smoothing 0.0, balanced False",
    }  # fmt: skip


def test_the_best_epoch_is_that_of_validation_where_no_test_curve_is(project: Project) -> None:
    plant_experiment(project, "tiny-b", reports({"val/accuracy": [0.5, 0.25]}), lr=0.2)
    _, rows = table(project, "best_accuracy, best_epoch")
    assert (rows["b"]["best_accuracy"], rows["b"]["best_epoch"]) == ("0.5", "1")


def test_seeds_become_mean_and_deviation(project: Project) -> None:
    for seed, top1 in enumerate((0.5, 0.75, 1.0)):
        plant_experiment(project, f"tiny-b-s{seed}", reports({"train/loss": LOSSES}, top1=top1), lr=0.2, seed=seed)
    text, rows = table(project, "top1, group_top1, train.seed")
    assert "| b | 3 | 75.0 ± 25.0 % | 100.0 % | 1.0 ± 1.0 |" in text
    assert (rows["b"]["runs"], rows["b"]["top1"], rows["b"]["top1_sd"]) == ("3", "0.75", "0.25")
    assert "± is the standard deviation between seeds" in text
    assert "| 鳞片 \\| a | not run |  |  |  |" in text


def test_one_run_has_no_deviation(project: Project) -> None:
    plant_experiment(project, "tiny-b", reports({}), lr=0.2)
    text, rows = table(project, "top1")
    assert "| b | 1 | 87.5 % |" in text
    assert rows["b"]["top1_sd"] == ""
    assert "±" not in text


def test_an_absent_value_is_empty_and_its_reason_stands_below(project: Project) -> None:
    plant_experiment(project, "tiny-b", reports({}, top5=None, top5_reason="fewer than 6 classes"), lr=0.2)
    text, rows = table(project, "top5, parameters, test_loss, stability_acc")
    assert "| b | 1 |  |  |  |  |" in text
    assert rows["b"]["top5"] == ""
    assert "- All rows: no top5: fewer than 6 classes." in text
    assert "no parameters: the run has no reports/train/network.json." in text
    assert "no test_loss: the run has no curve test/loss." in text


def test_the_table_says_on_what_it_was_measured_and_whether_it_flatters(project: Project) -> None:
    plant_experiment(project, "tiny-鳞片-a", reports({}))
    text, _ = table(project, "top1")
    assert "- All rows: judged on 40 test frames of 4 clips or photos, protocol grouped; no known reason" in text
    plant_experiment(project, "tiny-b", reports({}, optimistic="one clip per class", n_frames=39), lr=0.2)
    text, _ = table(project, "top1")
    assert "- 鳞片 \\| a: judged on 40 test frames" in text
    assert (
        "- b: judged on 39 test frames of 4 clips or photos, protocol grouped; optimistic: one clip per class." in text
    )


@pytest.mark.parametrize("columns", ["train_loss", "stability_loss", "top1"])
def test_training_losses_that_are_not_the_same_quantity_must_not_be_ranked(project: Project, columns: str) -> None:
    plant_experiment(project, "tiny-鳞片-a", reports({"train/loss": LOSSES}))
    text, _ = table(project, columns)
    assert "do not rank" not in text
    focal = project.params_yaml.read_text(encoding="utf-8")
    loss = "loss: {name: cross_entropy, label_smoothing: 0.0, balanced: false}"
    assert loss in focal
    project.params_yaml.write_text(focal.replace(loss, "loss: {name: focal, gamma: 0.25, alpha: null}"), "utf-8")
    plant_experiment(project, "tiny-b", reports({"train/loss": LOSSES}), lr=0.2)
    text, _ = table(project, columns)
    of_table, of_figure = text.split("## figure 1")
    warning = "the rows were trained with different losses, do not rank them by it"
    assert (warning in of_table) == (columns != "top1")
    assert f"train/loss: {warning}" in of_figure  # its curves are drawn over one another


def test_figures_are_drawn_and_say_what_they_lack(project: Project) -> None:
    plant_experiment(project, "tiny-鳞片-a", reports({"train/loss": LOSSES, "test/accuracy": LOSSES}))
    text, _ = table(project, "top1")
    folder = project.compare_reports / "tiny"
    assert sorted(path.name for path in folder.iterdir()) == ["figure_1.png", "table.csv", "table.md"]
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


def test_the_same_experiments_give_the_same_bytes(project: Project) -> None:
    plant_experiment(project, "tiny-鳞片-a", reports({"train/loss": LOSSES}, top5=None, top5_reason="few"))
    plant_experiment(project, "tiny-b", reports({"train/loss": LOSSES}), lr=0.2)
    write_recipe(project, RECIPE.format(columns="top1, top5, train_loss"))
    written = []
    for _ in range(2):  # in processes of their own: with other seeds of Python's hashes
        finished = run_pipe(project.root, "compare", "tiny")
        assert finished.returncode == 0, finished.stderr
        written.append({path.name: path.read_bytes() for path in (project.compare_reports / "tiny").iterdir()})
    assert written[0] == written[1]
    assert len(written[0]) == 3


def test_without_a_name_every_experiment_is_a_row(project: Project) -> None:
    plant_experiment(project, "tiny-b", reports({"train/loss": LOSSES}))
    plant_experiment(project, "lucky-name", reports({}, mse=0.5))
    finished = run_pipe(project.root, "compare")
    assert finished.returncode == 0, finished.stderr
    assert "compared 2 runs in 2 rows; reports/compare/experiments/table.md" in finished.stdout
    text = (project.compare_reports / "experiments" / "table.md").read_text(encoding="utf-8")
    assert "| row | runs | top1 | group_top1 | group_top1_low | group_top1_high | mse | train_loss | minutes |" in text
    assert "| lucky-name | 1 | 87.5 % | 100.0 % |  |  | 0.5000 |  |  |" in text


def test_a_report_that_the_run_did_not_write_is_not_counted(project: Project) -> None:
    plant_experiment(project, "tiny-鳞片-a", reports({}))
    plant_experiment(project, "tiny-b", reports({}), lr=0.2)
    (project.root / "reports").mkdir(exist_ok=True)
    found = list_experiments(project)["tiny-b"]
    run(project.root, "git", "checkout", "--quiet", "--detach", found.commit)
    (project.root / "reports" / "evaluate.json").write_text(json.dumps(EVALUATION | {"top1": 1.0}), encoding="utf-8")
    run(project.root, "git", "commit", "--quiet", "--all", "-m", "a better number")
    run(project.root, "git", "update-ref", found.ref, "HEAD")
    run(project.root, "git", "checkout", "--quiet", "-")
    text, _ = table(project, "top1")
    assert "| b | not run |" in text
    assert "tiny-b is not counted: reports/evaluate.json is not the one that `evaluate` wrote." in text


def test_params_that_the_stages_did_not_run_with_are_not_counted(project: Project) -> None:
    files = reports({})
    plant_experiment(project, "tiny-b", files, lr=0.2)
    found = list_experiments(project)["tiny-b"]
    lock = found.text(project.dvc_lock)
    assert lock is not None
    assert found.fault() is None
    plant_experiment(project, "tiny-b", files, lr=0.3)
    other = list_experiments(project)["tiny-b"]
    run(project.root, "git", "checkout", "--quiet", "--detach", other.commit)
    (project.root / "dvc.lock").write_text(lock, encoding="utf-8")
    run(project.root, "git", "commit", "--quiet", "--all", "-m", "the lock of another")
    run(project.root, "git", "update-ref", other.ref, "HEAD")
    assert list_experiments(project)["tiny-b"].fault() == "its stages did not run with its train"


def test_a_recipe_that_has_changed_since_is_told(project: Project) -> None:
    plant_experiment(project, "tiny-b", reports({}), lr=0.5)
    text, _ = table(project, "top1")
    assert "tiny-b ran with another train.lr than the recipe has now." in text
    plant_experiment(project, "tiny-b", reports({}), lr=0.2)
    assert "ran with another" not in table(project, "top1")[0]


def test_runs_of_an_earlier_commit_are_found_and_the_commits_named(project: Project) -> None:
    plant_experiment(project, "tiny-b", reports({}), lr=0.2)
    assert "different commits" not in table(project, "top1")[0]
    run(project.root, "git", "commit", "--quiet", "--allow-empty", "-m", "later")
    plant_experiment(project, "tiny-鳞片-a", reports({}))
    text, _ = table(project, "top1")
    assert "not run" not in text.split("## figure")[0]
    assert "- The runs were started from different commits: " in text


def test_nothing_to_compare_is_an_error_and_writes_nothing(project: Project) -> None:
    with pytest.raises(DataError, match=r"tiny\.yaml: no row has run; pipe study tiny runs them"):
        compare_study("tiny", project)
    with pytest.raises(DataError, match="no experiments"):
        compare_all(project)
    assert not project.compare_reports.exists()


def test_a_recipe_that_asks_for_no_comparison_says_so(project: Project) -> None:
    write_recipe(project, "params: {}\nrows: {a: {}}\n", "silent")
    with pytest.raises(ParamsError, match="no mapping `compare:`"):
        compare_study("silent", project)


def test_a_curve_that_is_no_number_is_refused(project: Project) -> None:
    files = reports({"train/loss": LOSSES})
    path = "reports/train/plots/metrics/train/loss.tsv"
    plant_experiment(project, "tiny-b", files | {path: files[path].replace("0.25", "nan")}, lr=0.2)
    with pytest.raises(DataError, match="tiny-b: train/loss: a value of the curve is not finite"):
        table(project, "train_loss")


def test_a_dotted_param_is_a_column_and_a_slip_is_not() -> None:
    for name in ("train.lr", "train.loss", "train.loss.gamma", "model.freeze.up_to", "split.near_duplicates.hash_bits"):
        assert is_param(name), name
    for name in ("train", "train.rate", "train.loss.gama", "trian.lr", "lr"):
        assert not is_param(name), name


def test_a_report_with_nan_is_refused(project: Project) -> None:
    plant_experiment(project, "tiny-b", reports({}, top1=float("nan")), lr=0.2)
    with pytest.raises(DataError, match=r"tiny-b: reports/evaluate\.json: not valid JSON \(NaN is not JSON\)"):
        table(project, "top1")
