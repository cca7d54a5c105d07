"""The rule by which a clip is judged: the same numbers for the device, `pipe predict` and the reports."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.verdict import Thresholds, judge_clip

SHARES = np.array([[0.9, 0.1], [0.6, 0.4], [0.1, 0.9]])
SCORES = np.array([5.0, 3.0, 1.0])


def test_without_thresholds_the_mean_over_all_frames_decides() -> None:
    verdict = judge_clip(SHARES, SCORES, Thresholds(None, None))
    assert verdict.class_number == 0
    np.testing.assert_allclose(verdict.probabilities, [1.6 / 3, 1.4 / 3])


def test_a_frame_that_shows_no_class_does_not_count_for_the_class() -> None:
    verdict = judge_clip(SHARES, SCORES, Thresholds(2.0, 0.0))
    np.testing.assert_allclose(verdict.probabilities, [0.75, 0.25])
    assert judge_clip(SHARES[::-1], SCORES, Thresholds(2.0, 0.0)).class_number == 1


@pytest.mark.parametrize(("clip", "class_number"), [(3.0, 0), (3.001, None)])
def test_a_clip_is_refused_by_its_mean_score(clip: float, class_number: int | None) -> None:
    # One frame is surely known, and would save the clip if frames decided.
    assert judge_clip(SHARES, SCORES, Thresholds(4.0, clip)).class_number == class_number


@pytest.mark.parametrize(("frame", "class_number"), [(5.0, 0), (5.001, None)])
def test_without_a_threshold_of_clips_one_known_frame_is_enough(frame: float, class_number: int | None) -> None:
    assert judge_clip(SHARES, SCORES, Thresholds(frame, None)).class_number == class_number


def test_a_refused_clip_still_has_the_mean_over_all_its_frames() -> None:
    np.testing.assert_allclose(judge_clip(SHARES, SCORES, Thresholds(9.0, None)).probabilities, SHARES.mean(axis=0))
