"""The sheet of near duplicates: both pictures of a pair on one panel, red where their labels differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.draw.sheets import GAP, TEXT_PIXELS, draw_text
from pipeline.split.near_duplicates import sheet as sheet_module
from pipeline.split.near_duplicates.alignment import Alignment
from pipeline.split.near_duplicates.search import ConfirmedPair, SearchResult
from pipeline.split.near_duplicates.sheet import PAIRS_ON_SHEET, draw_pairs
from runtime.images import read_image
from tests.support.scenes import add_picture

GREY, RED = (215, 215, 215), (235, 90, 90)
BLUE, GREEN = (10, 20, 200), (20, 180, 30)
PANEL_WIDTH = 2 * 160 + 3 * 6


def flat(colour: tuple[int, int, int], height: int, width: int) -> NDArray[np.uint8]:
    """A picture of one RGB colour, as OpenCV writes it."""
    return np.full((height, width, 3), colour[::-1], np.uint8)


def confirmed(project: Project, *, labels: str = "aa", mirrored: bool = False) -> ConfirmedPair:
    """A wide blue picture and a tall green one."""
    first = add_picture(project, "wide", flat(BLUE, 90, 160), labels[0])
    second = add_picture(project, "tall", flat(GREEN, 160, 80), labels[1])
    return ConfirmedPair(first, second, Alignment(0.8765, 0.9, 1.0, mirrored))


def drawn(project: Project, *pairs: ConfirmedPair) -> NDArray[np.uint8]:
    draw_pairs(SearchResult(pairs, 2, len(pairs)), project)
    return read_image(project.near_duplicates_png, max_pixels=10_000_000)


def box(canvas: NDArray[np.uint8], colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of a colour's pixels."""
    positions = np.argwhere((canvas == colour).all(axis=2))
    (top, left), (bottom, right) = positions.min(axis=0).tolist(), (positions.max(axis=0) + 1).tolist()
    return top, left, bottom, right


def panel_rows(canvas: NDArray[np.uint8], colour: tuple[int, int, int]) -> tuple[int, int]:
    """Top and bottom of the first panel: the column at its right edge, which no text reaches."""
    rows = np.flatnonzero((canvas[:, GAP + PANEL_WIDTH - 1] == colour).all(axis=1)).tolist()
    return rows[0], rows[-1] + 1


def has_line(canvas: NDArray[np.uint8], text: str, left: int, top: int, width: int) -> bool:
    """Whether the text stands there, black on white, and nothing else beside it."""
    expected = np.full_like(canvas, 255)
    draw_text(expected, text, left, top, width)
    band = slice(top, top + TEXT_PIXELS + GAP // 2), slice(left, left + width)
    return np.array_equal(canvas[band], expected[band])


def test_both_pictures_of_a_pair_lie_on_one_panel_side_by_side(project: Project) -> None:
    canvas = drawn(project, confirmed(project))
    top, bottom = panel_rows(canvas, GREY)
    wide, tall = box(canvas, BLUE), box(canvas, GREEN)
    assert (wide[2] - wide[0], wide[3] - wide[1]) == (90, 160)
    assert (tall[2] - tall[0], tall[3] - tall[1]) == (160, 80)
    assert top < tall[0] < wide[0]  # both in the middle of the panel's height
    assert wide[0] - top == bottom - wide[2]
    assert GAP < wide[1] < wide[3] < tall[1] < tall[3] < GAP + PANEL_WIDTH


def test_two_pairs_are_two_panels_with_white_between_them(project: Project) -> None:
    pair = confirmed(project)
    canvas = drawn(project, pair, pair, pair)
    top, _ = panel_rows(canvas, GREY)
    row = (canvas[top] == GREY).all(axis=1)
    edges = np.flatnonzero(np.diff(row.astype(int))) + 1
    assert edges.tolist() == [GAP, GAP + PANEL_WIDTH, 2 * GAP + PANEL_WIDTH, 2 * GAP + 2 * PANEL_WIDTH]


@pytest.mark.parametrize(
    ("labels", "mirrored", "title"),
    [
        ("aa", False, "1: 0.876"),
        ("aa", True, "1: 0.876, mirrored"),
        ("ab", False, "1: 0.876, TWO LABELS"),
        ("ab", True, "1: 0.876, mirrored, TWO LABELS"),
    ],
)
def test_the_title_of_a_pair_has_its_number_score_and_conflict(
    project: Project, labels: str, mirrored: bool, title: str
) -> None:
    canvas = drawn(project, confirmed(project, labels=labels, mirrored=mirrored))
    panel_top, _ = panel_rows(canvas, GREY if labels == "aa" else RED)
    assert has_line(canvas, title, GAP, panel_top - TEXT_PIXELS - GAP, PANEL_WIDTH)


def test_the_panel_is_red_where_the_labels_differ(project: Project) -> None:
    assert (drawn(project, confirmed(project, labels="ab")) == RED).all(axis=2).any()
    assert not (drawn(project, confirmed(project, labels="aa")) == RED).all(axis=2).any()


def test_the_heading_says_how_many_of_the_pairs_are_drawn(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = confirmed(project)
    canvas = drawn(project, pair, pair)
    assert has_line(canvas, "near duplicates: 2 of 2 pairs in split.json", GAP, GAP, canvas.shape[1] - 2 * GAP)
    monkeypatch.setattr(sheet_module, "PAIRS_ON_SHEET", 1)
    canvas = drawn(project, pair, pair)
    assert has_line(canvas, "near duplicates: 1 of 2 pairs in split.json", GAP, GAP, canvas.shape[1] - 2 * GAP)
    assert PAIRS_ON_SHEET == 20


@pytest.mark.parametrize(
    ("search", "heading"),
    [(None, "near duplicates were not searched for"), (SearchResult((), 8, 3), "near duplicates were not found")],
)
def test_without_a_pair_the_sheet_says_that_there_is_none(
    project: Project, search: SearchResult | None, heading: str
) -> None:
    draw_pairs(search, project)
    canvas = read_image(project.near_duplicates_png, max_pixels=10_000_000)
    assert has_line(canvas, heading, GAP, GAP, canvas.shape[1] - GAP)


def test_a_frame_that_is_gone_is_named(project: Project) -> None:
    pair = confirmed(project)
    gone = replace(pair, second=replace(pair.second, path="data/frames/a/gone.png"))
    with pytest.raises(DataError, match=r"gone\.png"):
        drawn(project, gone)
    assert not project.near_duplicates_png.exists()
