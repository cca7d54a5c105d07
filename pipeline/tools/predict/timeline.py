"""A timeline of a clip as a picture: the classes' probabilities over time, and below them the label of each frame."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import DataError
from pipeline.draw.sheets import GAP, TEXT_PIXELS, draw_text, write_png
from pipeline.tools.predict.answers import NO_LABEL, Answer

Colour = tuple[int, int, int]

WIDTH, HEIGHT = 960, 160  # pixels of the curves
SHOWN = 8  # classes: more colours cannot be told apart
_LEFT, _LINE, _BAND = 48, TEXT_PIXELS + GAP, 20  # pixels: width of the scale, height of a line, height of the band
_GREY, _PALE, _BLACK = (160, 160, 160), (225, 225, 225), (0, 0, 0)
_PER_ROW = 4  # names in a row of the legend


def write_timelines(answers: Sequence[Answer], path: Path) -> None:
    """Draw every clip among the answers, one below the other, as a PNG file.

    Raises:
        DataError: there is no clip that was classified.
    """
    clips = [answer for answer in answers if answer.frames]
    if not clips:
        raise DataError(f"{path}: no clip was classified; a timeline needs one")
    write_png(np.vstack([timeline(clip) for clip in clips]), path)


def timeline(clip: Answer) -> NDArray[np.uint8]:
    """Draw one clip: its verdict, the probabilities over time, a band with the frames' labels, and the legend.

    Returns:
        (height, width, 3) uint8 RGB on white.
    """
    colours = _colours(clip)
    parts = [_text(_heading(clip)), _curves(clip, colours), _band(clip, colours), _seconds(clip)]
    return np.vstack([*parts, *_legend(clip, colours), _white(2 * GAP)])


def _heading(clip: Answer) -> str:
    if clip.verdict is None:
        raise ValueError(f"{clip.path}: has no verdict")
    return f"{clip.verdict.probability:.1%} {clip.verdict.label_text}: {clip.path}"


def _colours(clip: Answer) -> dict[str, Colour]:
    """A colour for each of the classes with the largest mean probability; the other classes are not drawn."""
    means = clip.verdict.probabilities if clip.verdict else {}
    drawn = sorted(means, key=means.__getitem__, reverse=True)[:SHOWN]
    colours = [colorsys.hsv_to_rgb(index / len(drawn), 0.85, 0.8) for index in range(len(drawn))]
    return {
        name: (round(255 * r), round(255 * g), round(255 * b)) for name, (r, g, b) in zip(drawn, colours, strict=True)
    }


def _curves(clip: Answer, colours: Mapping[str, Colour]) -> NDArray[np.uint8]:
    canvas_hwc = _white(HEIGHT + _LINE)
    for level in (0.0, 0.5, 1.0):
        y = _y(level)
        cv2.line(canvas_hwc, (_LEFT, y), (WIDTH - GAP, y), _PALE, 1)
        draw_text(canvas_hwc, f"{level:g}", GAP, y - TEXT_PIXELS // 2, _LEFT - GAP)
    columns = _columns(clip)[:-1]
    for name, colour in reversed(list(colours.items())):  # the most probable class on top
        rows = [_y(frame.verdict.probabilities[name]) for frame in clip.frames]
        points_xy = np.stack([columns, rows], axis=1).astype(np.int32)
        cv2.polylines(canvas_hwc, [points_xy], False, colour, 2, cv2.LINE_AA)
        for x, y in points_xy.tolist():
            cv2.circle(canvas_hwc, (x, y), 3, colour, -1, cv2.LINE_AA)
    return canvas_hwc


def _y(probability: float) -> int:
    return round(_LINE / 2 + (1 - probability) * HEIGHT)


def _columns(clip: Answer) -> NDArray[np.int64]:
    """The x of each frame's start, and of the last frame's end. The last frame lasts as long as the one before it."""
    times = [frame.time_seconds for frame in clip.frames]
    end = 2 * times[-1] - times[-2] if len(times) > 1 else times[-1] + 1
    shares = (np.array([*times, end]) - times[0]) / (end - times[0])
    return np.round(_LEFT + shares * (WIDTH - GAP - _LEFT)).astype(np.int64)


def _band(clip: Answer, colours: Mapping[str, Colour]) -> NDArray[np.uint8]:
    canvas_hwc = _white(_BAND)
    columns = _columns(clip).tolist()
    for frame, left, right in zip(clip.frames, columns, columns[1:], strict=False):
        canvas_hwc[:, left:right] = colours.get(
            frame.verdict.label_text, _BLACK if frame.verdict.label is None else _GREY
        )
    return canvas_hwc


def _seconds(clip: Answer) -> NDArray[np.uint8]:
    canvas_hwc = _white(_LINE)
    draw_text(canvas_hwc, f"{clip.frames[0].time_seconds:.1f} s", _LEFT, 0, WIDTH // 2)
    draw_text(canvas_hwc, f"{clip.frames[-1].time_seconds:.1f} s", WIDTH - 80, 0, 80 - GAP)
    return canvas_hwc


def _legend(clip: Answer, colours: Mapping[str, Colour]) -> list[NDArray[np.uint8]]:
    entries = dict(colours)
    if any(frame.verdict.label is None for frame in clip.frames):
        entries[NO_LABEL] = _BLACK
    if clip.verdict and len(clip.verdict.probabilities) > len(colours):
        entries[f"{len(clip.verdict.probabilities) - len(colours)} other classes"] = _GREY
    rows, named = [], list(entries.items())
    for start in range(0, len(named), _PER_ROW):
        canvas_hwc, width = _white(_LINE), (WIDTH - _LEFT) // _PER_ROW
        for column, (name, colour) in enumerate(named[start : start + _PER_ROW]):
            left = _LEFT + column * width
            canvas_hwc[4:TEXT_PIXELS, left : left + TEXT_PIXELS] = colour
            draw_text(canvas_hwc, name, left + TEXT_PIXELS + GAP, 0, width - TEXT_PIXELS - 2 * GAP)
        rows.append(canvas_hwc)
    return rows


def _text(line: str) -> NDArray[np.uint8]:
    canvas_hwc = _white(_LINE + GAP)
    draw_text(canvas_hwc, line, GAP, GAP, WIDTH - 2 * GAP)
    return canvas_hwc


def _white(height: int) -> NDArray[np.uint8]:
    return np.full((height, WIDTH, 3), 255, np.uint8)
