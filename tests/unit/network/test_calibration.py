from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize
from sklearn.metrics import log_loss

from pipeline.network.calibration import (
    NO_NUMBERS,
    Calibration,
    UnknownThresholds,
    calibrate,
    calibration_from_plain,
    calibration_to_plain,
    fit_temperature,
    fit_thresholds,
)
from runtime.answers import Answers, probabilities_of


def _overconfident(n: int, n_classes: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Classes drawn from the softmax of some logits, and those logits `sharpness` times too large."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (n, n_classes))
    truth = np.array([generator.choice(n_classes, p=p) for p in probabilities_of(logits, None)])
    return (sharpness * logits).astype(np.float32), truth


def _photos(n: int) -> list[str]:
    return [f"photo {i}" for i in range(n)]


def _scores(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


@pytest.mark.parametrize("sharpness", [0.5, 3.0])
def test_logits_that_are_too_large_by_a_factor_are_divided_by_it(sharpness: float) -> None:
    fitted = fit_temperature(*_overconfident(4000, 5, sharpness), _photos(4000))
    assert fitted == pytest.approx(sharpness, rel=0.06)


def test_the_temperature_is_that_of_the_least_log_loss_with_a_prior_around_one() -> None:
    logits, truth = _overconfident(200, 3, 2.0)

    def loss(temperature: float) -> float:
        likelihood = 200 * log_loss(truth, probabilities_of(logits, temperature), labels=range(3))
        return likelihood + math.log(temperature) ** 2 / (2 * 0.5**2)

    best = optimize.minimize_scalar(loss, bounds=(0.1, 10), method="bounded")
    assert fit_temperature(logits, truth, _photos(200)) == pytest.approx(best.x, rel=1e-4)


def test_a_clip_counts_once_for_the_temperature_however_many_frames_it_has() -> None:
    logits, truth = _overconfident(60, 3, 3.0)
    repeated = np.repeat(np.arange(60), [20, *[1] * 59])  # twenty frames of the first clip, all alike
    groups = [f"clip {i}" for i in repeated]
    once = fit_temperature(logits, truth, [f"clip {i}" for i in range(60)])
    assert fit_temperature(logits[repeated], truth[repeated], groups) == pytest.approx(once, rel=1e-6)
    as_if_unrelated = fit_temperature(logits[repeated], truth[repeated], _photos(len(repeated)))
    assert as_if_unrelated != pytest.approx(once, rel=1e-3)  # the negative control


@pytest.mark.parametrize("n_clips", [2, 20])
def test_clips_that_are_all_right_give_a_moderate_temperature_and_not_zero(n_clips: int) -> None:
    logits = np.tile(np.array([[2.0, 0.0], [0.0, 2.0]], dtype=np.float32), (n_clips // 2, 1))
    temperature = fit_temperature(logits, np.tile([0, 1], n_clips // 2), _photos(n_clips))
    assert 0.2 < temperature < 1


def test_clips_that_are_all_wrong_give_a_temperature_within_the_range() -> None:
    logits = np.array([[20.0, 0.0], [0.0, 20.0]], dtype=np.float32)
    assert 1 < fit_temperature(logits, np.array([1, 0]), ["a", "b"]) < 100


def test_a_new_photo_is_below_the_threshold_at_most_as_often_as_stated() -> None:
    def threshold(rate: float) -> float:
        fitted, _ = fit_thresholds(_scores(*range(19))[::-1], _photos(19), rate)
        assert fitted is not None
        assert fitted.frame == fitted.clip  # of photos, each is a clip
        return fitted.frame

    # A new photo has one of 20 equally likely ranks among 19 photos; 5 % is the lowest, below all of them.
    assert (threshold(0.05), threshold(0.3), threshold(0.5)) == (0.0, 5.0, 9.0)


def test_a_clip_counts_once_for_the_thresholds_however_many_frames_it_has() -> None:
    groups = ["a"] * 10 + [f"clip {i}" for i in range(9)]
    fitted, _ = fit_thresholds(_scores(*range(19)), groups, 0.5)
    # Ten clips and the new one weigh an eleventh each: below 0.5 are the new one, a, and three clips with one frame.
    assert fitted is not None
    assert (fitted.frame, fitted.clip) == (13.0, 13.0)
    by_frames, _ = fit_thresholds(_scores(*range(19)), _photos(19), 0.5)
    assert by_frames is not None
    assert by_frames.frame == 9.0  # the negative control


def test_no_rate_is_offered_that_the_clips_cannot_tell() -> None:
    asked, _ = fit_thresholds(_scores(*range(10)), _photos(10), 0.05)
    assert asked is not None
    assert asked.false_alarms == pytest.approx(1 / 11)
    assert asked.frame == 0.0
    enough, _ = fit_thresholds(_scores(*range(19)), _photos(19), 0.05)
    assert enough is not None
    assert enough.false_alarms == pytest.approx(0.05)


@pytest.mark.parametrize(("n_clips", "n_below"), [(28, 0), (39, 0), (45, 0), (46, 1), (60, 1), (61, 2), (200, 9)])
def test_new_clips_are_refused_twice_as_often_as_named_in_one_of_twenty_sets_at_most(
    n_clips: int, n_below: int
) -> None:
    fitted, _ = fit_thresholds(_scores(*range(n_clips)), _photos(n_clips), 0.05)
    assert fitted is not None
    assert fitted.frame == fitted.clip == n_below
    assert fitted.false_alarms == 0.05
    # Scores are as good as uniform: then the share of new clips below a score is the score itself.
    drawn = np.sort(np.random.default_rng(0).uniform(size=(10_000, n_clips)), axis=1)
    assert (drawn[:, n_below] > 0.1).mean() < 0.06  # one of twenty, and some for the draw
    is_named_rate = n_below + 2 > 0.05 * (n_clips + 1)
    assert is_named_rate or (drawn[:, n_below + 1] > 0.1).mean() > 0.04  # so the next score would be too high


@pytest.mark.parametrize("rate", [0.05, 0.2])
@pytest.mark.parametrize("alike", [0.0, 0.9])
def test_a_new_clips_frames_are_below_the_threshold_at_most_as_often_as_stated(rate: float, alike: float) -> None:
    generator = np.random.default_rng(0)

    def clips(n: int) -> np.ndarray:
        own, shared = generator.normal(size=(n, 10)), generator.normal(size=(n, 1))
        return np.asarray(np.sqrt(alike) * shared + np.sqrt(1 - alike) * own)

    def thresholds(n_clips: int, groups: list[str]) -> list[UnknownThresholds]:
        fitted = [fit_thresholds(_scores(*clips(n_clips).ravel()), groups, rate)[0] for _ in range(300)]
        return [found for found in fitted if found is not None]

    groups = np.repeat(np.arange(29), 10).astype(str).tolist()
    fitted = thresholds(29, groups)
    assert rate / 4 < float(np.mean([(clips(100) < found.frame).mean() for found in fitted])) < rate + 0.005
    of_clips = float(np.mean([(clips(100).mean(axis=1) < found.clip).mean() for found in fitted]))
    assert rate / 4 < of_clips < rate + 0.01
    if alike:  # the negative control: what taking frames for independent would have promised
        naive = thresholds(5, _photos(50))
        assert np.mean([(clips(100) < found.frame).mean() for found in naive]) > 1.1 * rate


def test_below_ten_clips_there_are_no_thresholds_but_a_reason() -> None:
    fitted, reason = fit_thresholds(_scores(*range(45)), 5 * _photos(9), 0.05)
    assert fitted is None
    assert reason == "9 clips or photos to calibrate on; thresholds need 10"
    assert fit_thresholds(_scores(*range(50)), 5 * _photos(10), 0.05)[0] is not None


def test_thresholds_that_nobody_wants_are_not_fitted() -> None:
    fitted, reason = fit_thresholds(_scores(*range(50)), _photos(50), None)
    assert fitted is None
    assert "train.unknown_false_alarms is null" in (reason or "")


def test_logits_or_scores_that_are_no_numbers_give_reasons_alone() -> None:
    logits, scores = np.zeros((50, 2), dtype=np.float32), np.zeros(50, dtype=np.float32)
    for spoilt in (Answers(logits + math.nan, scores), Answers(logits, scores + math.inf)):
        fitted = calibrate(spoilt, np.zeros(50, dtype=np.int64), _photos(50), 0.05)
        assert fitted == Calibration(None, NO_NUMBERS, None, NO_NUMBERS)
    assert calibrate(Answers(logits, scores), np.zeros(50, dtype=np.int64), _photos(50), 0.05).unknown is not None


def test_a_calibration_survives_plain_values_and_a_spoilt_one_is_refused() -> None:
    whole = Calibration(1.5, None, UnknownThresholds(0.25, 0.5, 0.1), None)
    plain = calibration_to_plain(whole)
    assert calibration_from_plain(plain) == whole
    assert calibration_from_plain(calibration_to_plain(Calibration(None, "a", None, "b"))).unknown_reason == "b"
    for spoilt in (
        {"temperature": True},
        {"temperature": -1.0},
        {"temperature": 10**400},
        {"temperature": 1e-30},
        {"temperature": None},
        {"unknown": {"frame": math.nan, "clip": 0.0, "false_alarms": 0.1}},
        {"unknown": {"frame": 0.0, "clip": 0.0, "false_alarms": 1.5}},
        {"unknown": {"frame": 0.0, "false_alarms": 0.5}},
        {"unknown_reason": "both"},
    ):
        with pytest.raises((TypeError, ValueError)):
            calibration_from_plain({**plain, **spoilt})
