"""Each graph gets thresholds from its own scores."""

from __future__ import annotations

import numpy as np
import pytest

from export.export.reference_frames import ReferenceFrames
from export.export.search import Precision, Trial
from export.export.thresholds import thresholds_of
from pipeline.network.calibration import Calibration, UnknownThresholds, fit_thresholds
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
SCORES = np.linspace(0, 10, 19, dtype=np.float32)


def _thresholds(
    precision: Precision, scores: np.ndarray, checkpoint: Checkpoint, of_torch: np.ndarray = SCORES
) -> UnknownThresholds | None:
    logits = np.zeros((len(scores), 2), np.float32)
    frames = ReferenceFrames(("a", "b"), np.zeros(len(scores), np.int64), logits, Answers(logits, of_torch))
    return thresholds_of(Trial("a graph", precision, answers=Answers(logits, scores)), frames, checkpoint)


def test_a_graph_whose_scores_are_shifted_and_stretched_has_such_thresholds() -> None:
    unknown = FITTED.calibration.unknown
    assert unknown is not None
    for slope, shift in ((1.0, 0.0), (1.0, -2.5), (0.8, 1.0)):
        found = _thresholds("int8", slope * SCORES + np.float32(shift), FITTED)
        assert found is not None
        assert (found.frame, found.clip) == pytest.approx((slope * 5 + shift, slope * 6 + shift), abs=1e-6)
        assert found.false_alarms == unknown.false_alarms


def test_noise_of_a_graph_moves_no_threshold_and_refuses_about_as_many_clips() -> None:
    generator = np.random.default_rng(0)
    of_clips = np.repeat(generator.normal(10, 1, 300), 40)
    scores = (of_clips + generator.normal(0, 1.5, len(of_clips))).astype(np.float32)  # of torch, for all frames
    of_graph = (0.9 * scores - 1 + generator.normal(0, 0.2, len(scores))).astype(np.float32)
    unknown, _ = fit_thresholds(scores, np.repeat(np.arange(300), 40).astype(str).tolist(), 0.05)
    assert unknown is not None
    checkpoint = with_calibration(PLAIN, Calibration(1.0, None, unknown, None))
    asked = np.arange(0, len(scores), 23)  # one or two frames of a clip
    found = _thresholds("int8", of_graph[asked], checkpoint, scores[asked])
    assert found is not None
    assert (of_graph.reshape(300, 40).mean(axis=1) < found.clip).mean() == pytest.approx(0.05, abs=0.01)
    assert (of_graph < found.frame).mean() == pytest.approx(0.05, abs=0.01)


def test_equal_scores_move_the_thresholds_by_their_difference() -> None:
    found = _thresholds("fp16", np.full(3, 2.5, np.float32), FITTED, np.full(3, 2.0, np.float32))
    assert found == UnknownThresholds(5.5, 6.5, 0.05)


def test_float32_has_the_thresholds_of_torch() -> None:
    assert _thresholds("fp32", SCORES - 1, FITTED) == FITTED.calibration.unknown


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_where_the_checkpoint_has_none_no_graph_has_any(precision: Precision) -> None:
    assert _thresholds(precision, SCORES, PLAIN) is None
