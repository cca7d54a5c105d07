"""Contact sheets: pictures in a grid, a line of text above each."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import DataError
from pipeline.base.files import replacing_file
from pipeline.base.frames import resize_longer_side

TEXT_PIXELS = 16  # height of the letters
GAP = 8  # pixels around a picture
_LINE = TEXT_PIXELS + GAP
_JPEG_QUALITY = 85
_FONT = "uni"  # comes with OpenCV and has CJK, so a sheet looks the same on a machine without such fonts


@dataclass(frozen=True)
class Cell:
    """One picture of a sheet."""

    pixels_hwc: NDArray[np.uint8]  # (height, width, 3) RGB, of any size
    title: str  # one line, any Unicode


def thumbnail(pixels_hwc: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The picture with its longer side resized to `side` pixels; (height, width, 3) uint8."""
    return resize_longer_side(pixels_hwc, side, cv2.INTER_NEAREST)


def sheet(cells: Sequence[Cell], heading: str, *, columns: int, side: int) -> NDArray[np.uint8]:
    """A heading and below it the cells in rows; (height, width, 3) uint8 RGB on white.

    Args:
        cells: the pictures in reading order; without any the sheet is its heading.
        heading: one line, any Unicode; it is cut where it is wider than the cells.
        columns: cells in a row, at most.
        side: pixels of a picture's longer side.
    """
    columns = min(columns, len(cells))
    width = GAP + columns * (side + GAP) if cells else 2 * GAP + _width(sheet_text(heading))
    heading_hwc = _white(_LINE + GAP, width)
    draw_text(heading_hwc, heading, GAP, GAP, width - 2 * GAP)
    starts = range(0, len(cells), max(1, columns))
    return np.vstack([heading_hwc, *(_row(cells[start : start + columns], width, side) for start in starts)])


def stack(sheets: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Sheets below one another, the narrower ones widened with white; (height, width, 3) uint8 RGB."""
    width = max(sheet_hwc.shape[1] for sheet_hwc in sheets)
    widened = [
        np.pad(sheet_hwc, ((0, 0), (0, width - sheet_hwc.shape[1]), (0, 0)), constant_values=255)
        for sheet_hwc in sheets
    ]
    return np.vstack(widened)


def draw_text(canvas_hwc: NDArray[np.uint8], text: str, left: int, top: int, width: int) -> None:
    """Draw one black line of text on a canvas, in place.

    Args:
        canvas_hwc: (height, width, 3) uint8 RGB.
        text: one line, any Unicode; letters that the font lacks are drawn as escapes.
        left: pixels from the canvas's left edge.
        top: pixels from the canvas's upper edge.
        width: pixels that the line may take; a longer line ends in ….
    """
    line = sheet_text(text)
    cut = line
    while len(line) > 1 and _width(cut) > width:
        line = line[:-1]
        cut = f"{line}…"
    # No wrapping: a line that is too long must not run into the next picture.
    cv2.putText(canvas_hwc, cut, (left, top + TEXT_PIXELS), (0, 0, 0), _font(), TEXT_PIXELS, wrap=(0, 1 << 20))


def sheet_text(text: str) -> str:
    r"""The text as a sheet can show it: composed (NFC), with letters that its font lacks as escapes such as \u0e44."""
    composed = unicodedata.normalize("NFC", text)
    return "".join(letter if _has(letter) else letter.encode("unicode_escape").decode() for letter in composed)


def check_png(path: Path) -> None:
    """Refuse a file name that a sheet cannot have, before the sheet is drawn.

    Raises:
        DataError: the name does not end in .png.
    """
    if path.suffix.lower() != ".png":
        raise DataError(f"{path}: a sheet is a PNG file; expected a name that ends in .png")


def write_png(pixels_hwc: NDArray[np.uint8], path: Path) -> None:
    """Write RGB pixels as a PNG file, whole or not at all; a grey picture is stored with one channel.

    Raises:
        DataError: the picture is too large for PNG.
    """
    is_grey = not np.ptp(pixels_hwc, axis=2).any()
    _write(pixels_hwc[..., :1] if is_grey else pixels_hwc, path, "PNG", ())


def write_jpeg(pixels_hwc: NDArray[np.uint8], path: Path) -> None:
    """Write RGB pixels as a JPEG file, whole or not at all. A sheet of photos is ten times as large as PNG.

    Raises:
        DataError: the picture is too large for JPEG (65,535 pixels).
    """
    _write(pixels_hwc, path, "JPEG", (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))


def _row(cells: Sequence[Cell], width: int, side: int) -> NDArray[np.uint8]:
    thumbnails = [thumbnail(cell.pixels_hwc, side) for cell in cells]
    row_hwc = _white(_LINE + max(small_hwc.shape[0] for small_hwc in thumbnails) + GAP, width)
    for column, (cell, small_hwc) in enumerate(zip(cells, thumbnails, strict=True)):
        left = GAP + column * (side + GAP)
        row_hwc[_LINE : _LINE + small_hwc.shape[0], left : left + small_hwc.shape[1]] = small_hwc
        draw_text(row_hwc, cell.title, left, 0, side)
    return row_hwc


def _white(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 255, np.uint8)


def _write(pixels_hwc: NDArray[np.uint8], path: Path, kind: str, settings: Sequence[int]) -> None:
    stored = cv2.cvtColor(pixels_hwc, cv2.COLOR_RGB2BGR) if pixels_hwc.shape[2] == 3 else pixels_hwc
    done, encoded = cv2.imencode(f".{kind.lower()}", stored, settings)
    if not done:
        raise DataError(f"{path}: {pixels_hwc.shape[1]} x {pixels_hwc.shape[0]} pixels are too many for a {kind} file")
    with replacing_file(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


@functools.cache
def _font() -> cv2.FontFace:
    return cv2.FontFace(_FONT)


def _width(text: str) -> int:
    """Pixels of a line of text."""
    return int(cv2.getTextSize((1 << 20, TEXT_PIXELS), text, (0, 0), _font(), TEXT_PIXELS)[2])


@functools.cache
def _has(letter: str) -> bool:
    """Whether the font has the letter. OpenCV draws a question mark for a letter that the font lacks."""
    return letter in "? " or (letter.isprintable() and _drawn(letter) != _drawn("?"))


def _drawn(letter: str) -> bytes:
    canvas_hwc = np.zeros((3 * TEXT_PIXELS, 3 * TEXT_PIXELS, 3), np.uint8)
    cv2.putText(canvas_hwc, letter, (TEXT_PIXELS, 2 * TEXT_PIXELS), (255, 255, 255), _font(), TEXT_PIXELS)
    return canvas_hwc.tobytes()
