"""A timeline of a clip as a chart: the classes' probabilities over time, and below them the label of each frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.base.errors import DataError
from pipeline.draw.charts import chart, chart_text, missing_font
from pipeline.tools.predict.answers import NO_LABEL, Answer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase
    from matplotlib.patches import Patch

SHOWN = 8  # classes: more colours cannot be told apart
MOST_CLIPS = 200  # in one picture: matplotlib draws at most 65,535 pixels of height
_WIDTH, _HEIGHT = 9.6, 2.6  # inches of a clip
_GREY, _BLACK = "0.63", "black"
_OTHERS = "other classes"


def write_timelines(answers: Sequence[Answer], path: Path) -> str | None:
    """Draw every clip among the answers, one below the other, as a PNG file.

    Returns:
        The advice to install a font, where no installed font has the letters of a name; else None.

    Raises:
        DataError: no clip was classified, or the clips are too many for one picture.
    """
    clips = [answer for answer in answers if answer.frames]
    if not clips:
        raise DataError(f"{path}: no clip was classified; a timeline needs one")
    if len(clips) > MOST_CLIPS:
        raise DataError(f"{path}: found {len(clips)} clips; expected at most {MOST_CLIPS} in one picture")
    with chart(path, _WIDTH, _HEIGHT * len(clips)) as figure:
        for clip, part in zip(clips, figure.subfigures(len(clips), squeeze=False).flat, strict=True):
            draw_timeline(clip, part)
    return missing_font(
        text for clip in clips for text in (clip.path, *(clip.verdict.probabilities if clip.verdict else ()))
    )


def draw_timeline(clip: Answer, figure: FigureBase) -> None:
    """Draw one clip: its verdict, the probabilities over time, a band with the frames' labels, and the legend.

    Args:
        clip: a clip that was classified.
        figure: the empty figure, or the part of one, to draw on.
    """
    if clip.verdict is None:
        raise ValueError(f"{clip.path}: has no verdict")
    curves, band = figure.subplots(2, 1, sharex=True, height_ratios=(7, 1))
    title = f"{clip.verdict.probability:.1%} {clip.verdict.label_text}: {clip.path}"
    curves.set_title(chart_text(title), loc="left", fontsize=10)
    colours = _colours(clip.verdict.probabilities)
    _draw_curves(clip, colours, curves)
    _draw_band(clip, colours, band)
    handles, names = _legend(clip, colours)
    figure.legend(handles, names, loc="outside right upper", fontsize=8, frameon=False)


def _colours(probabilities: Mapping[str, float]) -> dict[str, str]:
    """A colour for each of the classes with the largest mean probability; the other classes are not drawn."""
    drawn = sorted(probabilities, key=probabilities.__getitem__, reverse=True)[:SHOWN]
    return {name: f"C{index}" for index, name in enumerate(drawn)}


def _draw_curves(clip: Answer, colours: Mapping[str, str], axes: Axes) -> None:
    times_seconds = [frame.time_seconds for frame in clip.frames]
    for name, colour in reversed(tuple(colours.items())):  # the most probable class on top
        shares = [frame.verdict.probabilities[name] for frame in clip.frames]
        axes.plot(times_seconds, shares, marker=".", color=colour, label=name)
    axes.set_ylim(-0.05, 1.05)
    axes.set_yticks((0, 0.5, 1))
    axes.grid(axis="y", color="0.88")


def _draw_band(clip: Answer, colours: Mapping[str, str], axes: Axes) -> None:
    times_seconds = [frame.time_seconds for frame in clip.frames]
    # The last frame lasts as long as the one before it.
    last_seconds = times_seconds[-1] - times_seconds[-2] if len(times_seconds) > 1 else 1.0
    spans = [(start, end - start) for start, end in pairwise((*times_seconds, times_seconds[-1] + last_seconds))]
    labels = [frame.verdict.label for frame in clip.frames]
    axes.broken_barh(
        spans, (0, 1), facecolors=[_BLACK if label is None else colours.get(label, _GREY) for label in labels]
    )
    axes.set_ylim(0, 1)
    axes.set_yticks(())
    axes.set_xlabel("seconds", fontsize=8)


def _legend(clip: Answer, colours: Mapping[str, str]) -> tuple[list[Patch], list[str]]:
    from matplotlib.patches import Patch

    entries = dict(colours)
    if any(frame.verdict.label is None for frame in clip.frames):
        entries[NO_LABEL] = _BLACK
    if clip.verdict and len(clip.verdict.probabilities) > len(colours):
        entries[f"{len(clip.verdict.probabilities) - len(colours)} {_OTHERS}"] = _GREY
    return [Patch(color=colour) for colour in entries.values()], [chart_text(name) for name in entries]
