"""The timeline of a clip shows its frames' probabilities and labels in their order."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from pipeline.base.errors import DataError
from pipeline.draw.charts import figure_in_our_look, missing_font
from pipeline.tools.predict.answers import Answer, Classification, FrameAnswer
from pipeline.tools.predict.timeline import MOST_CLIPS, SHOWN, draw_timeline, write_timelines


def clip(*shares: float, unknown: tuple[int, ...] = ()) -> Answer:
    """A clip of two classes with one frame per second; `shares` are the probabilities of 蓝色 by frame."""

    def verdict(share: float, known: bool) -> Classification:
        label = "蓝色" if share > 0.5 else "red"
        return Classification(label if known else None, max(share, 1 - share), {"red": 1 - share, "蓝色": share})

    frames = [FrameAnswer(float(i), verdict(share, i not in unknown)) for i, share in enumerate(shares)]
    return Answer("clip.mp4", verdict(float(np.mean(shares)), True), tuple(frames))


def drawn(clip: Answer) -> tuple[Axes, Axes, list[str]]:
    """The curves, the band and the names in the legend."""
    with figure_in_our_look(9.6, 2.6) as figure:
        draw_timeline(clip, figure)
    curves, band = figure.axes
    return curves, band, [text.get_text() for text in figure.legends[0].get_texts()]


def band_of(clip: Answer) -> list[tuple[str, float, float]]:
    """The band from left to right: colour, start and end in seconds; a run of one colour counts once."""
    (spans,) = drawn(clip)[1].collections
    runs: list[tuple[str, float, float]] = []
    for colour, path in zip(spans.get_facecolors(), spans.get_paths(), strict=True):
        start, end = float(path.vertices[:, 0].min()), float(path.vertices[:, 0].max())
        if runs and runs[-1][0] == to_hex(colour):
            start = runs.pop()[1]
        runs.append((to_hex(colour), start, end))
    return runs


def test_the_band_changes_where_the_answers_change() -> None:
    assert [run[1:] for run in band_of(clip(0.9, 0.9, 0.1, 0.1, 0.9))] == [(0, 2), (2, 4), (4, 5)]
    assert [run[1:] for run in band_of(clip(0.9, 0.9, 0.8))] == [(0, 3)]  # the negative control
    first, none, last = band_of(clip(0.9, 0.9, 0.9, unknown=(1,)))
    assert first[0] == last[0] != none[0] == "#000000"


def test_a_curve_runs_through_the_probabilities_of_its_class() -> None:
    curves, _, names = drawn(clip(0.9, 0.2, unknown=(1,)))
    values = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in curves.lines}
    assert values == {"蓝色": ([0.0, 1.0], [0.9, 0.2]), "red": ([0.0, 1.0], [pytest.approx(0.1), 0.8])}
    assert curves.lines[-1].get_label() == "蓝色"  # the more probable class lies on top
    assert curves.get_title(loc="left").endswith("clip.mp4")
    assert len(names) == 3  # both classes, and the frame without a label


def test_one_frame_and_many_classes_are_drawn_too() -> None:
    shares = {f"class {number}": 0.05 for number in range(20)}
    verdict = Classification("class 19", 0.05, shares)
    clip_of_one = Answer("clip.mp4", verdict, (FrameAnswer(0.0, verdict),))
    curves, _, names = drawn(clip_of_one)
    assert len(curves.lines) == SHOWN
    assert names[-1] == "12 other classes"
    assert [run[1:] for run in band_of(clip_of_one)] == [(0.0, 1.0)]


def test_several_clips_stand_below_one_another_and_photos_are_left_out(tmp_path: Path) -> None:
    photo = Answer("photo.png", Classification("red", 1.0, {"red": 1.0, "蓝色": 0.0}))
    advice = write_timelines([photo, clip(0.9, 0.1), clip(0.1)], tmp_path / "two.png")
    assert advice == missing_font(["蓝色"])
    write_timelines([clip(0.9, 0.1)], tmp_path / "one.png")
    two, one = (cv2.imread(str(tmp_path / name)) for name in ("two.png", "one.png"))
    assert two.shape == (2 * one.shape[0], one.shape[1], 3)
    upper, lower = np.split(two, 2)
    assert (upper < 255).any()
    assert (lower < 255).any()
    assert not np.array_equal(upper, lower)
    with pytest.raises(DataError, match="no clip was classified"):
        write_timelines([photo], tmp_path / "none.png")
    with pytest.raises(DataError, match=f"found {MOST_CLIPS + 1} clips; expected at most"):
        write_timelines([clip(0.9)] * (MOST_CLIPS + 1), tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
