"""The timeline of a clip shows its frames' probabilities and labels in their order."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.base.errors import DataError
from pipeline.tools.predict.answers import Answer, Classification, FrameAnswer
from pipeline.tools.predict.timeline import HEIGHT, WIDTH, timeline, write_timelines


def clip(*shares: float, unknown: tuple[int, ...] = ()) -> Answer:
    """A clip of two classes with one frame per second; `shares` are the probabilities of 蓝色 by frame."""

    def verdict(share: float, known: bool) -> Classification:
        label = "蓝色" if share > 0.5 else "red"
        return Classification(label if known else None, max(share, 1 - share), {"red": 1 - share, "蓝色": share})

    frames = [FrameAnswer(float(i), verdict(share, i not in unknown)) for i, share in enumerate(shares)]
    return Answer("clip.mp4", verdict(float(np.mean(shares)), True), tuple(frames))


def band(drawn_hwc: np.ndarray) -> list[tuple[int, ...]]:
    """The colours of the band from left to right; a run of one colour counts once."""
    row = [tuple(pixel) for pixel in drawn_hwc[24 + 8 + HEIGHT + 24 + 10].tolist()]
    coloured = [pixel for pixel in row if pixel != (255, 255, 255)]
    return [pixel for number, pixel in enumerate(coloured) if not number or pixel != coloured[number - 1]]


def test_the_band_changes_where_the_answers_change() -> None:
    assert len(band(timeline(clip(0.9, 0.9, 0.1, 0.1, 0.9)))) == 3
    assert len(band(timeline(clip(0.9, 0.9, 0.8)))) == 1  # the negative control
    first, none, last = band(timeline(clip(0.9, 0.9, 0.9, unknown=(1,))))
    assert first == last != none == (0, 0, 0)


def test_a_change_in_the_middle_of_the_clip_is_in_the_middle_of_the_band() -> None:
    row = timeline(clip(0.9, 0.9, 0.1, 0.1))[24 + 8 + HEIGHT + 24 + 10].astype(int)
    changes = np.flatnonzero(np.abs(np.diff(row, axis=0)).sum(axis=1))
    left, middle, right = changes
    assert middle == pytest.approx((left + right) / 2, abs=1)


def test_a_probability_that_rises_is_drawn_higher() -> None:
    low, high = (timeline(clip(share, share)) for share in (0.55, 0.95))
    colour = band(low)[0]
    assert colour == band(high)[0]
    tops = [np.flatnonzero((drawn[32 : 32 + HEIGHT] == colour).all(axis=2).any(axis=1)).min() for drawn in (low, high)]
    assert tops[0] - tops[1] == pytest.approx(0.4 * HEIGHT, abs=2)


def test_one_frame_and_many_classes_are_drawn_too() -> None:
    shares = {f"class {number}": 0.05 for number in range(20)}
    verdict = Classification("class 0", 0.05, shares)
    clip_of_one = Answer("clip.mp4", verdict, (FrameAnswer(0.0, verdict),))
    assert timeline(clip_of_one).shape[1] == WIDTH
    assert len(band(timeline(clip_of_one))) == 1


def test_several_clips_stand_below_one_another_and_photos_are_left_out(tmp_path: Path) -> None:
    photo = Answer("photo.png", Classification("red", 1.0, {"red": 1.0, "蓝色": 0.0}))
    write_timelines([photo, clip(0.9, 0.1), clip(0.1)], tmp_path / "plot.png")
    drawn = cv2.imread(str(tmp_path / "plot.png"))
    assert drawn.shape == (2 * timeline(clip(0.1)).shape[0], WIDTH, 3)
    with pytest.raises(DataError, match="no clip was classified"):
        write_timelines([photo], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
