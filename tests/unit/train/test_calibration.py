from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize
from sklearn.metrics import log_loss

from pipeline.evaluate.metrics import probabilities_of
from pipeline.train.calibration import fit_temperature, fit_unknown_threshold


def _overconfident(n: int, n_classes: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Classes drawn from the softmax of some logits, and those logits `sharpness` times too large."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (n, n_classes))
    truth = np.array([generator.choice(n_classes, p=p) for p in probabilities_of(logits, None)])
    return (sharpness * logits).astype(np.float32), truth


@pytest.mark.parametrize("sharpness", [0.5, 3.0])
def test_logits_that_are_too_large_by_a_factor_are_divided_by_it(sharpness: float) -> None:
    assert fit_temperature(*_overconfident(4000, 5, sharpness)).value == pytest.approx(sharpness, rel=0.06)


def test_the_temperature_is_that_of_the_least_log_loss() -> None:
    logits, truth = _overconfident(200, 3, 2.0)
    best = optimize.minimize_scalar(
        lambda t: log_loss(truth, probabilities_of(logits, t), labels=range(3)), bounds=(0.1, 10), method="bounded"
    )
    assert fit_temperature(logits, truth).value == pytest.approx(best.x, rel=1e-4)


def test_three_right_of_four_at_equal_margins_are_three_quarters_sure() -> None:
    logits = np.array([[2.0, 0.0]] * 4, dtype=np.float32)
    # softmax of a margin of 2 / T is 3/4 where 2 / T = log 3
    assert fit_temperature(logits, np.array([0, 0, 0, 1])).value == pytest.approx(2 / math.log(3))


def test_two_frames_are_enough() -> None:
    fitted = fit_temperature(np.array([[3.0, 0.0], [1.0, 0.0]], dtype=np.float32), np.array([0, 1]))
    assert fitted.value is not None
    assert fitted.reason is None


@pytest.mark.parametrize(
    ("logits", "truth", "reason"),
    [
        ([[2.0, 0.0], [0.0, 2.0]], [0, 1], "as good as all right"),
        ([[2.0, 0.0], [0.0, 2.0]], [1, 0], "guessing explains"),
        ([[1.0, 1.0], [1.0, 1.0]], [1, 0], "as good as all right|guessing explains"),
        ([[math.nan, 1.0], [1.0, 1.0]], [1, 0], "no numbers"),
    ],
)
def test_without_a_best_temperature_there_is_a_reason(logits: list[list[float]], truth: list[int], reason: str) -> None:
    fitted = fit_temperature(np.array(logits, dtype=np.float32), np.array(truth))
    assert fitted.value is None
    assert fitted.reason is not None
    assert any(part in fitted.reason for part in reason.split("|"))


def _largest(*values: float) -> np.ndarray:
    """Logits of three classes with these largest ones."""
    return np.array([[value - 3, value, value - 1] for value in values], dtype=np.float32)


def _photos(n: int) -> list[str]:
    return [f"photo {i}" for i in range(n)]


def test_a_new_photo_is_below_the_threshold_at_most_as_often_as_stated() -> None:
    logits = _largest(*range(19))
    # A new photo has one of 20 equally likely ranks among 19 photos; 5 % is the lowest rank, below all of them.
    assert fit_unknown_threshold(logits, _photos(19), 0.05).value == 0.0
    assert fit_unknown_threshold(logits, _photos(19), 0.1).value == 1.0
    assert fit_unknown_threshold(logits[::-1], _photos(19), 0.5).value == 9.0


def test_a_clip_counts_once_however_many_frames_it_has() -> None:
    logits, groups = _largest(*range(12)), ["a"] * 10 + ["b", "c"]
    # Three clips and the new one weigh a quarter each, and each frame of a a fortieth: at 0.5 all ten may be below.
    assert fit_unknown_threshold(logits, groups, 0.5).value == 10.0
    assert fit_unknown_threshold(logits, groups, 0.4).value == 6.0
    assert fit_unknown_threshold(logits, _photos(12), 0.5).value == 5.0


@pytest.mark.parametrize("rate", [0.05, 0.2])
@pytest.mark.parametrize("alike", [0.0, 0.9])
def test_a_new_clips_frames_are_below_the_threshold_at_most_as_often_as_stated(rate: float, alike: float) -> None:
    generator = np.random.default_rng(0)

    def clips(n: int) -> np.ndarray:
        own, shared = generator.normal(size=(n, 10)), generator.normal(size=(n, 1))
        return np.asarray(np.sqrt(alike) * shared + np.sqrt(1 - alike) * own)

    groups = np.repeat(np.arange(29), 10).astype(str).tolist()
    thresholds = [fit_unknown_threshold(_largest(*clips(29).ravel()), groups, rate).value for _ in range(300)]
    below = float(np.mean([(clips(100) < threshold).mean() for threshold in thresholds]))
    assert rate / 4 < below < rate + 0.005  # the share of the new clip makes the threshold careful
    if alike:  # the negative control: what taking frames for independent would have promised
        naive = [fit_unknown_threshold(_largest(*clips(5).ravel()), _photos(50), rate).value for _ in range(300)]
        assert np.mean([(clips(100) < threshold).mean() for threshold in naive]) > 1.1 * rate


@pytest.mark.parametrize(
    ("n_groups", "rate", "reason"),
    [
        (18, 0.05, "18 validation clips; 0.05 false alarms need 19"),
        (2, 0.25, "2 validation clips; 0.25 false alarms need 3"),
        (50, None, "train.unknown_false_alarms is null"),
    ],
)
def test_without_enough_clips_there_is_no_threshold_but_a_reason(
    n_groups: int, rate: float | None, reason: str
) -> None:
    fitted = fit_unknown_threshold(_largest(*range(5 * n_groups)), 5 * _photos(n_groups), rate)
    assert fitted.value is None
    assert reason in (fitted.reason or "")
    more = fit_unknown_threshold(_largest(*range(5 * n_groups + 5)), 5 * _photos(n_groups + 1), rate)
    assert rate is None or more.reason is None


def test_logits_that_are_no_numbers_give_no_threshold() -> None:
    assert fit_unknown_threshold(np.full((50, 2), math.nan, dtype=np.float32), _photos(50), 0.05).value is None
