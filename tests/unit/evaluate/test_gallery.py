"""The pictures of an evaluation: which frames they show, in which order, under which titles, and in the same bytes."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np

from pipeline.base import manifest
from pipeline.base.files import read_json, sha256_of
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.draw.sheets import GAP
from pipeline.evaluate import gallery
from pipeline.evaluate.params import EvaluateParams
from pipeline.evaluate.stage import evaluate
from tests.support.judged_frames import judged_frames

PICTURES = {
    "classes.jpg", "curves.png", "confusion.png", "roc.png", "reliability.png", "per_class.png", "features.png",
    "montage.jpg", "montage_training.jpg", "mistakes.jpg", "least_sure.jpg",
}  # fmt: skip
NAMES = ("red", "蓝色")
TRUTH = (0, 1, 0, 1, 0, 1)
LOGITS = ((3, 0), (0, 2), (0, 1), (4, 0), (0, 0.1), (0.2, 0))  # wrong are 2 and, surer, 3, and barely 4 and 5


def drawn(project: Project) -> dict[str, str]:
    evaluate(read_section(project.params_yaml, "evaluate", EvaluateParams), project)
    return {path.name: sha256_of(path) for path in project.plots.iterdir()}


def test_every_picture_that_the_report_shows_is_drawn_and_a_rerun_gives_the_same_bytes(exported: Project) -> None:
    before = {path.name: sha256_of(path) for path in exported.plots.iterdir()}  # of another process
    assert set(before) >= PICTURES
    assert drawn(exported) == before


def test_the_list_says_what_the_predictions_say(exported: Project) -> None:
    listing = read_json(exported.plots / "pictures.json")
    with exported.predictions_csv.open(encoding="utf-8", newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    wrong = {path for path, row in rows.items() if row["predicted"] != row["label"]}
    assert listing["n_mistakes"] == len(wrong) == len(listing["mistakes"])
    assert {frame["path"] for frame in listing["mistakes"]} == wrong
    assert len(listing["montage"]) == 8
    assert len(listing["least_sure"]) == 16
    for frame in (*listing["mistakes"], *listing["montage"], *listing["least_sure"]):
        row = rows[frame["path"]]
        assert (frame["label"], frame["predicted"]) == (row["label"], row["predicted"])
        assert abs(frame["confidence"] - float(row["confidence"])) < 1e-6
    assert listing["features"]["n_frames"] == listing["features"]["n_frames_of"] == 40


def test_the_montage_of_training_frames_shows_none_that_is_held_out(exported: Project) -> None:
    listing = read_json(exported.plots / "pictures.json")
    side_of = {row.path: row.split for row in manifest.read_split(exported.split_csv)}
    assert len(listing["montage_training"]) == 8
    assert {side_of[frame["path"]] for frame in listing["montage_training"]} == {"train"}
    assert {side_of[frame["path"]] for frame in listing["montage"]} == {"test"}
    assert len({frame["path"] for frame in listing["montage_training"]}) == 8


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


def shades(sheet: np.ndarray, shown: int, side: int) -> list[int]:  # type: ignore[type-arg]
    """The grey in the middle of each picture of the first row."""
    middle = GAP + 2 * (16 + GAP) + side // 4
    return [int(sheet[middle, GAP + column * (side + GAP) + side // 2, 0]) for column in range(shown)]


def test_mistakes_are_listed_with_the_most_confident_first_and_drawn_in_that_order(project: Project) -> None:
    kept = judged_frames(project, TRUTH, LOGITS, NAMES)
    sheet, shown = gallery.mistakes(kept, NAMES, project)
    assert [frame.path for frame in shown] == [f"data/frames/00{index}.png" for index in (3, 2, 5, 4)]
    assert shown[0].to_json() | {"confidence": 0} == {
        "path": "data/frames/003.png", "label": "蓝色", "predicted": "red", "confidence": 0,
    }  # fmt: skip
    confidences = [frame.confidence for frame in shown]
    assert confidences == sorted(confidences, reverse=True)
    assert shades(sheet, 4, 240) == [30, 20, 50, 40]


def test_right_frames_are_no_mistakes_and_without_any_the_sheet_is_almost_empty(project: Project) -> None:
    kept = judged_frames(project, TRUTH[:2], LOGITS[:2], NAMES)
    sheet, shown = gallery.mistakes(kept, NAMES, project)
    assert shown == []
    assert sheet.shape[0] < 100


def test_the_least_sure_come_whether_right_or_wrong(project: Project) -> None:
    kept = judged_frames(project, (0, 0, 0), ((5, 0), (0.1, 0), (0, 0.5)), NAMES)
    _, shown = gallery.least_sure(kept, NAMES, project)
    assert [frame.path[-7:] for frame in shown] == ["001.png", "002.png", "000.png"]


def test_the_montage_is_drawn_at_random_but_always_the_same_and_never_twice_the_same_frame(project: Project) -> None:
    kept = judged_frames(project, (0,) * 20, ((1, 0),) * 20, NAMES)
    first, shown = gallery.montage(kept, NAMES, 8, project)
    again, _ = gallery.montage(kept, NAMES, 8, project)
    assert np.array_equal(first, again)
    paths = [frame.path for frame in shown]
    assert len(set(paths)) == 8
    assert paths != sorted(paths)
    _, all_of_them = gallery.montage(kept, NAMES, 100, project)
    assert len(all_of_them) == 20


def test_a_class_shows_frames_spread_over_its_clips_and_one_without_frames_is_left_out(project: Project) -> None:
    rows = judged_frames(project, (0,) * 12 + (1,), ((1, 0),) * 13, NAMES).rows
    two_classes = gallery.classes_sheet(rows, ("absent", *NAMES), project)
    one_class = gallery.classes_sheet(rows[:12], NAMES, project)
    assert shades(one_class, 6, 160) == [0, 20, 40, 70, 90, 110]
    assert two_classes.shape[0] == 2 * one_class.shape[0]
    moved = [dataclasses.replace(row, group="one clip") for row in rows[:12]]
    assert not np.array_equal(gallery.classes_sheet(moved, NAMES, project), one_class)  # its heading counts clips
