"""Sheets of frames: which are shown, in which order, and under which titles."""

from __future__ import annotations

import dataclasses

import numpy as np

from pipeline.base.project import Project
from pipeline.draw.sheets import GAP
from pipeline.evaluate import gallery
from tests.support.judged_frames import judged_frames

NAMES = ("red", "蓝色")
TRUTH = (0, 1, 0, 1, 0, 1)
LOGITS = ((3, 0), (0, 2), (0, 1), (4, 0), (0, 0.1), (0.2, 0))  # wrong are 2 and, surer, 3, and barely 4 and 5


def shades(sheet: np.ndarray, shown: int, side: int) -> list[int]:  # type: ignore[type-arg]
    """The grey in the middle of each picture of the first row."""
    middle = GAP + 2 * (16 + GAP) + side // 4
    return [int(sheet[middle, GAP + number * (side + GAP) + side // 2, 0]) for number in range(shown)]


def test_mistakes_are_listed_with_the_most_confident_first_and_drawn_in_that_order(project: Project) -> None:
    kept = judged_frames(project, TRUTH, LOGITS, NAMES)
    sheet, shown, n_wrong = gallery.mistakes(kept, NAMES, project)
    assert n_wrong == 4
    assert [one["path"] for one in shown] == [f"data/frames/00{number}.png" for number in (3, 2, 5, 4)]
    assert shown[0] | {"confidence": 0} == {
        "path": "data/frames/003.png", "label": "蓝色", "predicted": "red", "confidence": 0,
    }  # fmt: skip
    confidences = [one["confidence"] for one in shown]
    assert confidences == sorted(confidences, reverse=True)
    assert shades(sheet, 4, 240) == [30, 20, 50, 40]


def test_right_frames_are_no_mistakes_and_without_any_the_sheet_is_almost_empty(project: Project) -> None:
    kept = judged_frames(project, TRUTH[:2], LOGITS[:2], NAMES)
    sheet, shown, n_wrong = gallery.mistakes(kept, NAMES, project)
    assert (shown, n_wrong) == ([], 0)
    assert sheet.shape[0] < 100


def test_the_least_sure_come_whether_right_or_wrong(project: Project) -> None:
    kept = judged_frames(project, (0, 0, 0), ((5, 0), (0.1, 0), (0, 0.5)), NAMES)
    _, shown = gallery.least_sure(kept, NAMES, project)
    assert [one["path"][-7:] for one in shown] == ["001.png", "002.png", "000.png"]


def test_the_montage_is_drawn_at_random_but_always_the_same_and_never_twice_the_same_frame(project: Project) -> None:
    kept = judged_frames(project, (0,) * 20, ((1, 0),) * 20, NAMES)
    first, shown = gallery.montage(kept, NAMES, 8, project)
    again, _ = gallery.montage(kept, NAMES, 8, project)
    assert np.array_equal(first, again)
    paths = [one["path"] for one in shown]
    assert len(set(paths)) == 8
    assert paths != sorted(paths)
    _, all_of_them = gallery.montage(kept, NAMES, 100, project)
    assert len(all_of_them) == 20


def test_a_class_shows_frames_spread_over_its_clips_and_one_without_frames_is_left_out(project: Project) -> None:
    rows = judged_frames(project, (0,) * 12 + (1,), ((1, 0),) * 13, NAMES).rows
    both = gallery.classes_sheet(rows, ("absent", *NAMES), project)
    alone = gallery.classes_sheet(rows[:12], NAMES, project)
    assert shades(alone, 6, 160) == [0, 20, 40, 70, 90, 110]
    assert both.shape[0] == 2 * alone.shape[0]
    moved = [dataclasses.replace(row, group="one clip") for row in rows[:12]]
    assert not np.array_equal(gallery.classes_sheet(moved, NAMES, project), alone)  # its heading counts clips
