"""Each graph gets thresholds on its own scale of scores."""

from __future__ import annotations

import numpy as np
import pytest

from export.graphs.thresholds import thresholds_of_graph
from pipeline.network.calibration import UnknownThresholds, fit_thresholds

UNKNOWN = UnknownThresholds(5.0, 6.0, 0.05)
SCORES = np.linspace(0, 10, 19, dtype=np.float32)


@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (1.0, -2.5), (0.8, 1.0)])
def test_a_graph_whose_scores_are_shifted_and_stretched_has_such_thresholds(slope: float, shift: float) -> None:
    found = thresholds_of_graph(UNKNOWN, SCORES, slope * SCORES + np.float32(shift))
    assert (found.frame, found.clip) == pytest.approx((slope * 5 + shift, slope * 6 + shift), abs=1e-6)
    assert found.false_alarms == 0.05


def test_noise_of_a_graph_moves_no_threshold_and_refuses_about_as_many_clips() -> None:
    generator = np.random.default_rng(0)
    of_clips = np.repeat(generator.normal(10, 1, 300), 40)
    scores = (of_clips + generator.normal(0, 1.5, len(of_clips))).astype(np.float32)  # of torch, for all frames
    of_graph = (0.9 * scores - 1 + generator.normal(0, 0.2, len(scores))).astype(np.float32)
    unknown, _ = fit_thresholds(scores, np.repeat(np.arange(300), 40).astype(str).tolist(), 0.05)
    assert unknown is not None
    asked = np.arange(0, len(scores), 23)  # one or two frames of a clip
    found = thresholds_of_graph(unknown, scores[asked], of_graph[asked])
    assert (of_graph.reshape(300, 40).mean(axis=1) < found.clip).mean() == pytest.approx(0.05, abs=0.01)
    assert (of_graph < found.frame).mean() == pytest.approx(0.05, abs=0.01)


def test_equal_scores_move_the_thresholds_by_their_difference() -> None:
    found = thresholds_of_graph(UNKNOWN, np.full(3, 2.0, np.float32), np.full(3, 2.5, np.float32))
    assert found == UnknownThresholds(5.5, 6.5, 0.05)
