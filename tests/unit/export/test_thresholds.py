"""Each graph gets thresholds from its own scores."""

from __future__ import annotations

import numpy as np
import pytest

from export.export.reference_frames import ReferenceFrames
from export.export.search import Precision, Trial
from export.export.thresholds import thresholds_of
from pipeline.base.manifest import Row
from pipeline.network.calibration import Calibration, UnknownThresholds
from pipeline.network.checkpoint import Checkpoint
from pipeline.network.params import ModelParams
from pipeline.network.preprocess import Preprocess
from runtime.answers import Answers
from tests.support.checkpoints import Untrained, checkpoint_of, with_calibration

MODEL = ModelParams.model_validate(
    {
        "arch": "resnet18", "weights": "none", "freeze": "all", "head": "linear", "pooling": "average",
        "fc_widths": [], "fc_dropouts": [], "output": "softmax",
    }
)  # fmt: skip
PLAIN = checkpoint_of({}, Untrained(("a", "b"), MODEL, Preprocess(32, "squash", 1.0, (0.5,) * 3, (0.5,) * 3)))
FITTED = with_calibration(PLAIN, Calibration(1.0, None, UnknownThresholds(5.0, 6.0, 0.05), None))
ROWS = [Row(f"{number}.jpg", "a", f"{number}", "", f"clip {number}") for number in range(19)]
SCORES = np.arange(19, dtype=np.float32)


def _thresholds(
    precision: Precision, scores: np.ndarray, checkpoint: Checkpoint, n_clips: int = 19
) -> UnknownThresholds | None:
    answers = Answers(np.zeros((n_clips, 2), np.float32), scores)
    frames = ReferenceFrames(("a", "b"), np.zeros(n_clips, np.int64), answers.logits, answers, rows=ROWS[:n_clips])
    return thresholds_of(Trial("a graph", precision, answers=answers), frames, checkpoint)


def test_a_graph_whose_scores_are_shifted_has_shifted_thresholds() -> None:
    as_they_are, shifted = (_thresholds("int8", SCORES - shift, FITTED) for shift in (0.0, 2.5))
    assert as_they_are == UnknownThresholds(0.0, 0.0, 0.05)
    assert shifted == UnknownThresholds(-2.5, -2.5, 0.05)


def test_float32_has_the_thresholds_of_torch() -> None:
    assert _thresholds("fp32", SCORES, FITTED) == FITTED.calibration.unknown


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_where_the_checkpoint_has_none_no_graph_has_any(precision: Precision) -> None:
    assert _thresholds(precision, SCORES, PLAIN) is None


def test_too_few_clips_leave_the_thresholds_of_torch() -> None:
    assert _thresholds("int8", SCORES[:9], FITTED, n_clips=9) == FITTED.calibration.unknown
