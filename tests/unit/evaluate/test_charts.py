"""The charts of an evaluation: numbers of any size are drawn within bounds, and other numbers give another picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.base.numbers.checked_values import Interval
from pipeline.evaluate import charts
from pipeline.evaluate.evaluation import ClassFrames, ClassGroups, ClassNumbers
from pipeline.evaluate.metrics import precision_recall_points, roc_points
from pipeline.evaluate.projection import to_plane
from runtime.answers import probabilities_of

NAMES = ["<b>$鳞片$", "b_{2}", "c"]
MOST_PIXELS = 1600


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def of_class(right: int, groups: int = 4) -> ClassNumbers:
    share = right / groups if groups else 0.0
    interval = Interval(max(0.0, share - 0.4), min(1.0, share + 0.4))
    return ClassNumbers(ClassFrames(share, share, share, support=4), ClassGroups(groups, right, interval))


@pytest.mark.parametrize("n_classes", [1, 3, 25, 120])
def test_a_confusion_of_any_size_stays_within_bounds(tmp_path: Path, n_classes: int) -> None:
    names = [f"{NAMES[0]} {index}" for index in range(n_classes)]
    counts = np.eye(n_classes, dtype=int)
    charts.draw_confusion(names, counts.tolist(), counts.tolist(), tmp_path / "a.png")
    assert max(size_of(tmp_path / "a.png")) <= MOST_PIXELS


def test_another_confusion_is_another_picture(tmp_path: Path) -> None:
    for name, counts in {"first": [[5, 1], [0, 4]], "again": [[5, 1], [0, 4]], "changed": [[5, 0], [1, 4]]}.items():
        charts.draw_confusion(NAMES[:2], counts, counts, tmp_path / f"{name}.png")
    first, again, changed = ((tmp_path / f"{name}.png").read_bytes() for name in ("first", "again", "changed"))
    assert first == again != changed


@pytest.mark.parametrize("n_classes", [2, 30])
def test_curves_of_few_and_of_many_classes_are_drawn(tmp_path: Path, n_classes: int) -> None:
    generator = np.random.default_rng(0)
    truth = np.arange(3 * n_classes) % n_classes
    probabilities = probabilities_of(generator.normal(0, 1, (len(truth), n_classes)), None)
    names = [f"{NAMES[0]} {index}" for index in range(n_classes)]
    points = [kind(truth, probabilities, names) for kind in (roc_points, precision_recall_points)]
    charts.draw_rankings(*points, tmp_path / "a.png")
    assert max(size_of(tmp_path / "a.png")) <= MOST_PIXELS


def test_reliability_is_drawn_with_and_without_the_temperature(tmp_path: Path) -> None:
    bins = [{"class": kind, "confidence": 0.7, "accuracy": 0.5, "frames": 3} for kind in ("uncalibrated", "calibrated")]
    charts.draw_reliability(bins, tmp_path / "a.png")
    charts.draw_reliability([bins[0], bins[1] | {"accuracy": 0.9}], tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


def test_of_many_classes_the_worst_are_drawn(tmp_path: Path) -> None:
    few = {f"bad {index}": of_class(index % 3) for index in range(charts.MOST_BARS)}
    many = few | {f"good {index}": of_class(4) for index in range(50)}
    charts.draw_classes(few, tmp_path / "few.png")
    charts.draw_classes(many, tmp_path / "many.png")
    assert size_of(tmp_path / "few.png") == size_of(tmp_path / "many.png")
    assert max(size_of(tmp_path / "many.png")) <= MOST_PIXELS


def test_a_class_without_clips_is_drawn_too(tmp_path: Path) -> None:
    charts.draw_classes({NAMES[0]: of_class(0, groups=0), NAMES[1]: of_class(4)}, tmp_path / "a.png")
    assert (tmp_path / "a.png").is_file()


@pytest.mark.parametrize(("n", "n_classes"), [(3, 2), (40, 3), (60, 30)])
def test_features_are_drawn_by_class_and_side(tmp_path: Path, n: int, n_classes: int) -> None:
    projection = to_plane(np.random.default_rng(0).normal(0, 1, (n, 8)).astype(np.float32))
    labels = [f"{NAMES[0]} {index % n_classes}" for index in range(n)]
    sides = [("train", "val", "test")[index % 3] for index in range(n)]
    charts.draw_features(projection, labels, sides, tmp_path / "a.png")
    charts.draw_features(projection, labels, ["train"] * n, tmp_path / "b.png")
    charts.draw_features(projection, labels[1:] + labels[:1], sides, tmp_path / "c.png")
    assert len({(tmp_path / f"{name}.png").read_bytes() for name in "abc"}) == 3


def test_curves_are_drawn_in_a_panel_for_each_measure(tmp_path: Path) -> None:
    curves = {"loss": {"train": [0.5, 0.25]}, "accuracy": {"val": [0.5, 0.25]}}
    charts.draw_curves(curves, tmp_path / "a.png")
    assert size_of(tmp_path / "a.png")[0] > 600
