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
_FONT = "uni"  # OpenCV's own; it has CJK, so that a sheet looks the same on a machine without such fonts


@dataclass(frozen=True)
class Cell:
    """One picture of a sheet."""

    pixels_hwc: NDArray[np.uint8]  # (height, width, 3) RGB, of any size
    title: str  # one line, any Unicode


def thumbnail(pixels_hwc: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The picture with its longer side resized to `side` pixels; (height, width, 3) uint8."""
    return resize_longer_side(pixels_hwc, side, cv2.INTER_NEAREST)


def sheet(cells: Sequence[Cell], heading: str, *, columns: int, side: int) -> NDArray[np.uint8]:
    """A heading, and the cells in rows below it; (height, width, 3) uint8 RGB on white.

    Args:
        cells: at least one, in reading order.
        heading: one line, any Unicode.
        columns: cells in a row, at most.
        side: pixels of a picture's longer side.
    """
    columns = min(columns, len(cells))
    width = GAP + columns * (side + GAP)
    head_hwc = _white(_LINE + GAP, width)
    draw_text(head_hwc, heading, GAP, GAP, width - 2 * GAP)
    starts = range(0, len(cells), columns)
    return np.vstack([head_hwc, *(_row(cells[start : start + columns], width, side) for start in starts)])


def blank(heading: str) -> NDArray[np.uint8]:
    """A sheet without pictures: its heading alone; (height, width, 3) uint8 RGB on white."""
    width = 2 * GAP + _width(drawable(heading))
    head_hwc = _white(_LINE + GAP, width)
    draw_text(head_hwc, heading, GAP, GAP, width - 2 * GAP)
    return head_hwc


def _row(cells: Sequence[Cell], width: int, side: int) -> NDArray[np.uint8]:
    thumbnails = [thumbnail(cell.pixels_hwc, side) for cell in cells]
    strip_hwc = _white(_LINE + max(small_hwc.shape[0] for small_hwc in thumbnails) + GAP, width)
    for number, (cell, small_hwc) in enumerate(zip(cells, thumbnails, strict=True)):
        left = GAP + number * (side + GAP)
        strip_hwc[_LINE : _LINE + small_hwc.shape[0], left : left + small_hwc.shape[1]] = small_hwc
        draw_text(strip_hwc, cell.title, left, 0, side)
    return strip_hwc


def _white(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 255, np.uint8)


def draw_text(canvas_hwc: NDArray[np.uint8], text: str, left: int, top: int, width: int) -> None:
    r"""Draw one black line of any Unicode in place, cut with … to `width` pixels.

    What the font lacks is drawn as its escape, such as \u0e44.
    """
    line = drawable(text)
    cut = line
    while len(line) > 1 and _width(cut) > width:
        line = line[:-1]
        cut = f"{line}…"
    # No wrapping: a line that is too long must not run into the next picture.
    cv2.putText(canvas_hwc, cut, (left, top + TEXT_PIXELS), (0, 0, 0), _font(), TEXT_PIXELS, wrap=(0, 1 << 20))


def drawable(text: str) -> str:
    """The text, composed (NFC), with characters that the font lacks as escapes."""
    composed = unicodedata.normalize("NFC", text)
    return "".join(letter if _has(letter) else letter.encode("unicode_escape").decode() for letter in composed)


def check_png(path: Path) -> None:
    """Refuse a name that a sheet cannot have, before the work of drawing it.

    Raises:
        DataError: it does not end in .png.
    """
    if path.suffix.lower() != ".png":
        raise DataError(f"{path}: a sheet is a PNG file; expected a name that ends in .png")


def write_png(pixels_hwc: NDArray[np.uint8], path: Path) -> None:
    """Write RGB pixels as a PNG file, whole or not at all; one channel is stored where all three are the same.

    Raises:
        DataError: the picture does not fit into PNG.
    """
    is_grey = not np.ptp(pixels_hwc, axis=2).any()
    _write(pixels_hwc[..., :1] if is_grey else pixels_hwc, path, "PNG", ())


def write_jpeg(pixels_hwc: NDArray[np.uint8], path: Path) -> None:
    """Write RGB pixels as a JPEG file, whole or not at all: for sheets of photos, which as PNG are ten times as large.

    Raises:
        DataError: the picture does not fit into JPEG (65,535 pixels).
    """
    _write(pixels_hwc, path, "JPEG", (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))


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
    return int(cv2.getTextSize((1 << 20, TEXT_PIXELS), text, (0, 0), _font(), TEXT_PIXELS)[2])


@functools.cache
def _has(letter: str) -> bool:
    """Whether the font has it: what it lacks, it draws as a question mark."""
    return letter in "? " or (letter.isprintable() and _drawn(letter) != _drawn("?"))


def _drawn(letter: str) -> bytes:
    canvas_hwc = np.zeros((3 * TEXT_PIXELS, 3 * TEXT_PIXELS, 3), np.uint8)
    cv2.putText(canvas_hwc, letter, (TEXT_PIXELS, 2 * TEXT_PIXELS), (255, 255, 255), _font(), TEXT_PIXELS)
    return canvas_hwc.tobytes()


def stack(sheets: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Sheets below one another, the narrower ones filled up with white; (height, width, 3) uint8 RGB."""
    width = max(one_hwc.shape[1] for one_hwc in sheets)
    padded = [
        np.pad(one_hwc, ((0, 0), (0, width - one_hwc.shape[1]), (0, 0)), constant_values=255) for one_hwc in sheets
    ]
    return np.vstack(padded)
