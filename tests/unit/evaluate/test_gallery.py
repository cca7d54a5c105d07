"""The pictures of an evaluation: all of them, with a list that says what they show, and the same bytes every time."""

from __future__ import annotations

import csv

from pipeline.base.files import read_json, sha256_of
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.evaluate.params import EvaluateParams
from pipeline.evaluate.stage import evaluate

PICTURES = {
    "classes.jpg", "curves.png", "confusion.png", "roc.png", "reliability.png", "per_class.png", "features.png",
    "montage.jpg", "mistakes.jpg", "least_sure.jpg",
}  # fmt: skip


def drawn(project: Project) -> dict[str, str]:
    evaluate(read_section(project.params_yaml, "evaluate", EvaluateParams), project)
    return {path.name: sha256_of(path) for path in project.plots.iterdir()}


def test_every_picture_that_the_report_shows_is_drawn_and_a_rerun_gives_the_same_bytes(exported: Project) -> None:
    before = {path.name: sha256_of(path) for path in exported.plots.iterdir()}  # of another process
    assert set(before) >= PICTURES
    assert drawn(exported) == before


def test_the_list_says_what_the_predictions_say(exported: Project) -> None:
    said = read_json(exported.plots / "pictures.json")
    with exported.predictions_csv.open(encoding="utf-8", newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    wrong = {path for path, row in rows.items() if row["predicted"] != row["label"]}
    assert said["n_mistakes"] == len(wrong) == len(said["mistakes"])
    assert {one["path"] for one in said["mistakes"]} == wrong
    assert len(said["montage"]) == 8
    assert len(said["least_sure"]) == 16
    for one in (*said["mistakes"], *said["montage"], *said["least_sure"]):
        assert (one["label"], one["predicted"]) == (rows[one["path"]]["label"], rows[one["path"]]["predicted"])
        assert abs(one["confidence"] - float(rows[one["path"]]["confidence"])) < 1e-6
    assert said["features"]["n_frames"] == said["features"]["n_frames_of"] == 40


def test_without_the_curves_of_training_the_rest_is_drawn(exported: Project) -> None:
    (exported.train_reports / "plots").rename(exported.root / "elsewhere")
    before = {path.name for path in exported.plots.iterdir()}
    assert before - set(drawn(exported)) == {"curves.png", "curves.csv"}


def test_the_table_of_curves_has_the_numbers_that_training_reported(exported: Project) -> None:
    with (exported.plots / "curves.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["side"], row["epoch"]) for row in rows] == [(side, n) for side in ("train", "val") for n in "123"]
    last = read_json(exported.train_reports / "metrics.json")
    for side in ("train", "val"):
        row = [row for row in rows if row["side"] == side][-1]
        assert {name: float(row[name]) for name in ("loss", "accuracy")} == {
            name: last[side][name] for name in ("loss", "accuracy")
        }
