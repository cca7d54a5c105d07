"""A clip on one sheet: its sharpness over time, and its frames with what screening said of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.base.manifest import Row
from pipeline.draw.sheets import GAP, Cell, draw_text, sheet, stack, thumbnail
from runtime.images import read_image

SHOWN = 48  # of the dropped frames and of the kept ones, each spread over the clip
_COLUMNS, _SIDE = 4, 320
_WIDTH = GAP + _COLUMNS * (_SIDE + GAP)
_PLOT_HEIGHT = 160  # pixels
_GREEN, _RED, _GREY = (0, 128, 0), (200, 0, 0), (160, 160, 160)
_BORDER = 6  # pixels


def contact_sheet(heading: str, rows: Sequence[Row], folder: Path, min_sharpness: float) -> NDArray[np.uint8]:
    """The plot, and below it kept frames with a green border and dropped ones with a red one, in the order of time.

    Args:
        heading: one line.
        rows: of one clip or photo; at least one.
        folder: where the paths of the rows start.
        min_sharpness: the threshold that is drawn, as a share of the median.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    ordered = sorted(rows, key=lambda row: row.time_seconds or 0.0)
    shown = sorted(
        _spread([row for row in ordered if row.kept]) + _spread([row for row in ordered if not row.kept]),
        key=lambda row: row.time_seconds or 0.0,
    )
    frames_hwc = sheet(
        [_cell(row, folder) for row in shown],
        f"{len(shown)} of {len(rows)} frames: kept ones green, dropped ones red",
        columns=_COLUMNS,
        side=_SIDE,
    )
    plot_hwc = _plot(ordered, min_sharpness)
    head_hwc = np.full((4 * GAP, _WIDTH, 3), 255, np.uint8)
    draw_text(head_hwc, heading, GAP, GAP, _WIDTH - 2 * GAP)
    return stack([head_hwc, plot_hwc, frames_hwc])


def _spread(rows: Sequence[Row]) -> list[Row]:
    if len(rows) <= SHOWN:
        return list(rows)
    return [rows[number] for number in np.linspace(0, len(rows) - 1, SHOWN).round().astype(int)]


def _cell(row: Row, folder: Path) -> Cell:
    small_hwc = thumbnail(read_image(folder / row.path, max_pixels=row.width * row.height), _SIDE)
    corner = (small_hwc.shape[1] - 1, small_hwc.shape[0] - 1)
    cv2.rectangle(small_hwc, (0, 0), corner, _GREEN if row.kept else _RED, _BORDER)
    time = "photo" if row.time_seconds is None else f"{row.time_seconds:.2f} s"
    return Cell(small_hwc, f"{time} {row.drop_reason or 'kept'}")


def _plot(rows: Sequence[Row], min_sharpness: float) -> NDArray[np.uint8]:
    """Sharpness over time, from zero; the grey line is the threshold."""
    values = np.array([row.sharpness or 0.0 for row in rows])
    times = np.array([row.time_seconds or 0.0 for row in rows])
    median, most, end = float(np.median(values)), float(values.max()) or 1.0, float(times.max()) or 1.0
    canvas_hwc = np.full((_PLOT_HEIGHT + 5 * GAP, _WIDTH, 3), 255, np.uint8)
    said = f"sharpness over {times.max():.1f} s: median {median:.1f}, most {values.max():.1f}; grey: the least to keep"
    draw_text(canvas_hwc, said, GAP, 0, _WIDTH - 2 * GAP)
    bottom = canvas_hwc.shape[0] - GAP
    x = np.round(2 * GAP + times / end * (_WIDTH - 4 * GAP)).astype(int)
    y = np.round(bottom - values / most * (_PLOT_HEIGHT - GAP)).astype(int)
    least = round(bottom - min_sharpness * median / most * (_PLOT_HEIGHT - GAP))
    cv2.line(canvas_hwc, (GAP, bottom), (_WIDTH - GAP, bottom), (0, 0, 0), 1)
    cv2.line(canvas_hwc, (GAP, least), (_WIDTH - GAP, least), _GREY, 1)
    cv2.polylines(canvas_hwc, [np.stack([x, y], axis=1).astype(np.int32)], False, _GREY, 1, cv2.LINE_AA)
    for row, column, line in zip(rows, x, y, strict=True):
        cv2.circle(canvas_hwc, (int(column), int(line)), 3, _GREEN if row.kept else _RED, -1, cv2.LINE_AA)
    return canvas_hwc
