"""The closest near duplicates side by side on one sheet: what a person looks at before believing the list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import DataError
from pipeline.base.files import replacing_file
from pipeline.base.project import Project, safe_join
from pipeline.split.near_duplicates.search import Confirmed, Search

SHOWN = 20
_SIDE = 160  # pixels of a picture's square
_CAPTION = 18  # pixels of height
_GAP = 8
_COLUMNS = 2
_WHITE, _BLACK = 255, (0, 0, 0)


def draw_pairs(search: Search | None, project: Project) -> None:
    """Write `reports/near_duplicates.png`: the first pairs of the receipt, numbered in its order, with their scores.

    Without pairs it says so, as where nothing was searched (None). Names are not drawn; the receipt has them.

    Raises:
        DataError: a frame is missing or broken.
    """
    pairs = search.confirmed[:SHOWN] if search else ()
    if pairs:
        sheet_hwc = _grid([_cell(number, pair, project) for number, pair in enumerate(pairs, start=1)])
    else:
        sheet_hwc = np.full((40, 420, 3), _WHITE, np.uint8)
        _write(sheet_hwc, f"near duplicates were not {'found' if search else 'searched for'}", (_GAP, 25))
    with replacing_file(project.near_duplicates_png) as temporary:
        temporary.write_bytes(cv2.imencode(".png", sheet_hwc)[1].tobytes())


def _cell(number: int, pair: Confirmed, project: Project) -> NDArray[np.uint8]:
    cell_hwc = np.full((_SIDE + _CAPTION + _GAP, 2 * _SIDE + 2 * _GAP, 3), _WHITE, np.uint8)
    said = f"{number}: {pair.alignment.score:.3f}{', mirrored' if pair.alignment.mirrored else ''}"
    _write(cell_hwc, said + (", TWO LABELS" if pair.has_two_labels else ""), (0, _CAPTION - 5))
    for left, row in ((0, pair.first), (_SIDE + 2, pair.second)):
        small_hwc = _read_small(safe_join(project.root, row.path))
        height, width = small_hwc.shape[:2]
        cell_hwc[_CAPTION : _CAPTION + height, left : left + width] = small_hwc
    return cell_hwc


def _read_small(path: Path) -> NDArray[np.uint8]:
    pixels_hwc = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    if pixels_hwc is None:
        raise DataError(f"{path}: cannot be decoded; run `pipe extract` again")
    scale = _SIDE / max(pixels_hwc.shape[:2])
    size = (max(1, round(pixels_hwc.shape[1] * scale)), max(1, round(pixels_hwc.shape[0] * scale)))
    return np.asarray(cv2.resize(pixels_hwc, size, interpolation=cv2.INTER_AREA), np.uint8)


def _grid(cells: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    blank = np.full_like(cells[0], _WHITE)
    rows = [
        np.hstack([*cells[at : at + _COLUMNS], *[blank] * (_COLUMNS - len(cells[at : at + _COLUMNS]))])
        for at in range(0, len(cells), _COLUMNS)
    ]
    return np.vstack(rows)


def _write(sheet_hwc: NDArray[np.uint8], text: str, bottom_left_xy: tuple[int, int]) -> None:
    cv2.putText(sheet_hwc, text, bottom_left_xy, cv2.FONT_HERSHEY_SIMPLEX, 0.45, _BLACK, 1, cv2.LINE_AA)
