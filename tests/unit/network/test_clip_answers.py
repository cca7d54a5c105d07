"""Clips as a device answers them: all frames count, and right, wrong and refused add up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.base.checked_values import Interval
from pipeline.base.manifest import Row
from pipeline.base.share_intervals import exact_interval, out_of_fold_interval
from pipeline.network.calibration import Calibration, UnknownThresholds, not_calibrated
from pipeline.network.clip_answers import ClipAnswers, FrameAnswers, answer_clips, thresholds_of_calibration
from runtime.verdict import Thresholds

NONE = Thresholds(None, None)


def _frames(*clips: tuple[str, int, list[tuple[float, float]]]) -> FrameAnswers:
    """Clips by name and true class, each with the logits of its frames."""
    rows = [Row(f"{name}{i}", f"class {truth}", name, "", name) for name, truth, of in clips for i in range(len(of))]
    logits = np.array([pair for _, _, of in clips for pair in of], dtype=np.float32)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return FrameAnswers(rows, logits.max(axis=1), shares, np.array([truth for _, truth, of in clips for _ in of]))


def test_right_wrong_and_refused_clips_are_counted() -> None:
    frames = _frames(
        ("right", 0, [(5.0, 0.0), (4.0, 1.0)]), ("wrong", 1, [(5.0, 0.0)]), ("refused", 1, [(0.0, 0.5), (0.2, 0.1)])
    )
    found = answer_clips(frames, lambda _: Thresholds(1.0, 1.0), None)
    assert (found.n_clips, found.right, found.wrong, found.refused) == (3, 1, 1, 1)
    assert found.interval == exact_interval(1, 3)
    assert answer_clips(frames, lambda _: NONE, None).refused == 0  # the negative control


def test_a_frame_that_screening_dropped_counts_too() -> None:
    frames = _frames(("clip", 0, [(2.0, 0.0), (0.0, 9.0)]))
    dropped = replace(frames, rows=[frames.rows[0], replace(frames.rows[1], kept=False)])
    assert answer_clips(dropped, lambda _: NONE, None).wrong == 1  # the kept frame alone would be right


def test_the_thresholds_are_those_of_each_clips_fold() -> None:
    frames = _frames(("a", 0, [(2.0, 0.0)]), ("b", 0, [(2.0, 0.0)]))
    of_folds = replace(frames, rows=[replace(row, fold=number) for number, row in enumerate(frames.rows)])
    thresholds = {0: Thresholds(1.0, 1.0), 1: Thresholds(3.0, 3.0)}
    found = answer_clips(of_folds, lambda row: thresholds[row.fold or 0], 2)
    assert (found.right, found.refused) == (1, 1)
    assert found.interval == out_of_fold_interval(1, 2, 2)


def test_a_group_of_two_labels_is_two_answers() -> None:
    frames = _frames(("clip", 0, [(2.0, 0.0)]), ("clip", 1, [(2.0, 0.0)]))
    found = answer_clips(frames, lambda _: NONE, None)
    assert (found.n_clips, found.right, found.wrong) == (2, 1, 1)


def test_the_thresholds_of_a_calibration_are_those_of_the_device() -> None:
    fitted = Calibration(1.0, None, UnknownThresholds(0.5, 0.75, 0.1), None)
    assert thresholds_of_calibration(fitted) == Thresholds(0.5, 0.75)
    assert thresholds_of_calibration(not_calibrated("few clips")) == NONE


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="as_device: found a sum of 2; expected 3"):
        ClipAnswers(3, 1, 1, 0, Interval(0.0, 1.0))
    with pytest.raises(ValueError, match="expected no negative count"):
        ClipAnswers(1, 2, -1, 0, Interval(0.0, 1.0))
