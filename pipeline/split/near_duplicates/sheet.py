"""The sheet of near duplicates, two pictures a pair: a person looks at them before believing the list."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.base.frames import read_frame
from pipeline.base.project import Project
from pipeline.draw.sheets import Cell, sheet, thumbnail, write_png
from pipeline.split.near_duplicates.search import ConfirmedPair, SearchResult

PAIRS_ON_SHEET = 20
_PAIRS_IN_A_ROW = 2
_SIDE = 160  # pixels of a picture's longer side
_MARGIN = 6  # pixels of the panel around and between the two pictures
_PANEL_WIDTH = 2 * _SIDE + 3 * _MARGIN
_GREY = (215, 215, 215)
_RED = (235, 90, 90)


def draw_pairs(search: SearchResult | None, project: Project) -> None:
    """Write `reports/near_duplicates.png`: the first pairs of the receipt, with their numbers and scores.

    The two pictures of a pair lie on one panel, which is grey, or red where their labels differ. Names are not drawn,
    since the receipt has them. Without a pair, or without a search (None), the sheet says that there is none.

    Raises:
        DataError: a frame is missing or broken.
    """
    pairs = search.confirmed[:PAIRS_ON_SHEET] if search else ()
    cells = [Cell(_panel(pair, project), _title(position, pair)) for position, pair in enumerate(pairs, start=1)]
    sheet_hwc = sheet(cells, _heading(search), columns=_PAIRS_IN_A_ROW, side=_PANEL_WIDTH)
    write_png(sheet_hwc, project.near_duplicates_png)


def _heading(search: SearchResult | None) -> str:
    if search is None:
        return "near duplicates were not searched for"
    n_pairs = len(search.confirmed)
    if not n_pairs:
        return "near duplicates were not found"
    n_shown = min(n_pairs, PAIRS_ON_SHEET)
    return f"near duplicates: {n_shown} of {n_pairs} pairs in split.json"


def _title(position: int, pair: ConfirmedPair) -> str:
    mirrored = ", mirrored" if pair.alignment.mirrored else ""
    two_labels = ", TWO LABELS" if pair.has_two_labels else ""
    return f"{position}: {pair.alignment.score:.3f}{mirrored}{two_labels}"


def _panel(pair: ConfirmedPair, project: Project) -> NDArray[np.uint8]:
    """The two pictures side by side, each in the middle of its half; (height, width, 3) uint8 RGB."""
    pictures = [thumbnail(read_frame(project, row), _SIDE) for row in (pair.first, pair.second)]
    height = max(picture_hwc.shape[0] for picture_hwc in pictures) + 2 * _MARGIN
    panel_hwc = np.full((height, _PANEL_WIDTH, 3), _RED if pair.has_two_labels else _GREY, np.uint8)
    for half, picture_hwc in enumerate(pictures):
        top = (height - picture_hwc.shape[0]) // 2
        left = _MARGIN + half * (_SIDE + _MARGIN) + (_SIDE - picture_hwc.shape[1]) // 2
        panel_hwc[top : top + picture_hwc.shape[0], left : left + picture_hwc.shape[1]] = picture_hwc
    return panel_hwc
