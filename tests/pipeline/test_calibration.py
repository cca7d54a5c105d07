from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize
from sklearn.metrics import log_loss

from pipeline.calibration import fit_temperature
from pipeline.metrics import probabilities_of


def _overconfident(n: int, n_classes: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Classes drawn from the softmax of some logits, and those logits `sharpness` times too large."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (n, n_classes))
    truth = np.array([generator.choice(n_classes, p=p) for p in probabilities_of(logits, None)])
    return (sharpness * logits).astype(np.float32), truth


@pytest.mark.parametrize("sharpness", [0.5, 3.0])
def test_logits_that_are_too_large_are_divided_by_as_much(sharpness: float) -> None:
    assert fit_temperature(*_overconfident(4000, 5, sharpness)).value == pytest.approx(sharpness, rel=0.06)


def test_the_temperature_is_that_of_the_least_log_loss() -> None:
    logits, truth = _overconfident(200, 3, 2.0)
    found = optimize.minimize_scalar(
        lambda t: log_loss(truth, probabilities_of(logits, t), labels=range(3)), bounds=(0.1, 10), method="bounded"
    )
    assert fit_temperature(logits, truth).value == pytest.approx(found.x, rel=1e-4)


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
def test_where_no_temperature_is_best_there_is_none_and_a_reason(
    logits: list[list[float]], truth: list[int], reason: str
) -> None:
    fitted = fit_temperature(np.array(logits, dtype=np.float32), np.array(truth))
    assert fitted.value is None
    assert fitted.reason is not None
    assert any(part in fitted.reason for part in reason.split("|"))
