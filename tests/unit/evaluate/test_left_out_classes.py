"""Classes that are left out in turn: those unlike the others are recognised, and one that looks like another is not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.base.manifest import Row
from pipeline.evaluate.evaluation import LeftOutClasses, RecognisedClips
from pipeline.evaluate.left_out_classes import MOST_CLASSES, leave_out_classes, means_by_group
from pipeline.evaluate.predictions import Predictions
from pipeline.network.embeddings import Embeddings
from runtime.answers import probabilities_of

CHANNELS, FRAMES = 16, 3


def _kept(directions: list[int], n_clips: int = 15, n_folds: int = 5) -> Predictions:
    """Clips of classes, each along one axis of the features; two classes of one axis look alike."""
    generator = np.random.default_rng(0)
    rows, truth, features = [], [], []
    for label, direction in enumerate(directions):
        for clip in range(n_clips):
            for frame in range(FRAMES):
                name = f"{label}/{clip}"
                rows.append(Row(f"{name}/{frame}.jpg", f"{label}", name, "", name, fold=clip % n_folds))
                truth.append(label)
                features.append(generator.normal(0, 0.3, CHANNELS) + 3 * np.eye(CHANNELS)[direction])
    logits = np.zeros((len(rows), len(directions)), np.float32)
    pooled = np.array(features, np.float32)
    return Predictions(
        rows, np.array(truth), logits, logits[:, 0], probabilities_of(logits, None), Embeddings(list(pooled))
    )


def _recognised(directions: list[int], **settings: int) -> LeftOutClasses:
    found = leave_out_classes(_kept(directions, **settings), tuple(map(str, range(len(directions)))), 0.05)
    assert found.value is not None
    return found.value


def test_classes_unlike_the_others_are_recognised() -> None:
    assert _recognised([0, 1, 2]).per_class == {name: RecognisedClips(15, 15) for name in "012"}


def test_a_class_that_looks_like_another_is_not_recognised() -> None:
    recognised = _recognised([0, 1, 2, 2]).per_class
    assert [recognised[name].recognised for name in "01"] == [15, 15]
    assert max(recognised[name].recognised for name in "23") <= 3  # about the false alarms


def test_the_classes_with_most_clips_are_left_out_and_the_sums_are_theirs() -> None:
    every = _recognised(list(range(10)), n_clips=6).to_json()
    assert list(every["per_class"]) == list("01234567")
    assert every["clips"] == 6 * MOST_CLASSES
    assert every["recognised"] == sum(count["recognised"] for count in every["per_class"].values())


def test_what_cannot_be_tried_has_a_reason() -> None:
    def reason(kept: Predictions, classes: tuple[str, ...], rate: float | None) -> str | None:
        return leave_out_classes(kept, classes, rate).reason

    assert reason(_kept([0, 1]), ("0", "1"), 0.05) == "found 2 classes; to leave one out needs 3"
    few = reason(_kept([0, 1, 2], n_clips=4), ("0", "1", "2"), 0.05)
    assert few == "without 0: 8 clips or photos to calibrate on; thresholds need 10"
    assert reason(_kept([0, 1, 2], n_folds=1), ("0", "1", "2"), 0.05) == "without 0: its clips lie in one fold"


class _NeverCompared(np.ndarray[tuple[int, ...], np.dtype[np.str_]]):
    """Names that no loop compares with one after the other, which would take the square of their number."""

    def __eq__(self, _: object) -> NDArray[np.bool_]:  # type: ignore[override]
        pytest.fail("all names were compared with one")

    __hash__ = None  # type: ignore[assignment]  # as every array


def test_the_means_of_groups_take_no_comparison_for_each_group() -> None:
    generator = np.random.default_rng(0)
    scores, names = generator.normal(size=400).astype(np.float32), np.array([f"clip {n}" for n in range(37)])
    groups = names[generator.integers(0, len(names), len(scores))]
    expected = [scores[groups == name].mean() for name in np.unique(groups)]
    assert means_by_group(scores, groups.view(_NeverCompared)) == expected
    with pytest.raises(pytest.fail.Exception):  # the negative control
        _ = groups.view(_NeverCompared) == names[0]
