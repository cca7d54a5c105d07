"""The closest near duplicates side by side on one sheet: what a person looks at before believing the list."""

from __future__ import annotations

from pipeline.base.frames import read_frame
from pipeline.base.project import Project
from pipeline.draw.sheets import Cell, blank, sheet, write_png
from pipeline.split.near_duplicates.search import Confirmed, Search

SHOWN = 20
_SIDE = 160  # pixels of a picture's square
_PAIRS_IN_A_ROW = 2


def draw_pairs(search: Search | None, project: Project) -> None:
    """Write `reports/near_duplicates.png`: the first pairs of the receipt, numbered in its order, with their scores.

    Without a pair, or without a search (None), the sheet says so. Names are not drawn; the receipt has them.

    Raises:
        DataError: a frame is missing or broken.
    """
    pairs = search.confirmed[:SHOWN] if search else ()
    if not pairs:
        heading = f"near duplicates were not {'found' if search else 'searched for'}"
        write_png(blank(heading), project.near_duplicates_png)
        return
    cells = [cell for number, pair in enumerate(pairs, start=1) for cell in _cells(number, pair, project)]
    heading = f"near duplicates: the {len(pairs)} closest pairs"
    write_png(sheet(cells, heading, columns=2 * _PAIRS_IN_A_ROW, side=_SIDE), project.near_duplicates_png)


def _cells(number: int, pair: Confirmed, project: Project) -> list[Cell]:
    score = f"{number}: {pair.alignment.score:.3f}{', mirrored' if pair.alignment.mirrored else ''}"
    titles = (score, "TWO LABELS" if pair.has_two_labels else "")
    rows = (pair.first, pair.second)
    return [Cell(read_frame(project, row), title) for row, title in zip(rows, titles, strict=True)]
