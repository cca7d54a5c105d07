"""How well unknown material is recognised: each class in turn is left out, and the known score is fitted to the others.

Its clips are unknown material then. They are near to the others, as classes of one project are, so other
material, such as a hand, is recognised more often.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.base.numbers.checked_values import ValueOrReason
from pipeline.evaluate.evaluation import LeftOutClasses, RecognisedClips
from pipeline.evaluate.predictions import Predictions
from pipeline.network.calibration import UnknownThresholds, fit_thresholds
from pipeline.network.embeddings import Embeddings
from pipeline.network.fit_known_score import fit_known_score, spread_over_classes
from pipeline.network.known_score import KnownScore

MOST_CLASSES = 8  # left out in turn: those with the most clips
_FEWEST_CLASSES = 3


def leave_out_classes(kept: Predictions, classes: tuple[str, ...], rate: float | None) -> ValueOrReason[LeftOutClasses]:
    """Leave out each class in turn, and count its clips that the others' score and threshold tell.

    Args:
        kept: every kept frame, with its fold and the features of a backbone that no label has changed.
        classes: the names, by their numbers.
        rate: the share of known clips that may be refused; None: no threshold is wanted.
    """
    if len(classes) < _FEWEST_CLASSES:
        return ValueOrReason(None, f"found {len(classes)} classes; to leave one out needs {_FEWEST_CLASSES}")
    groups = np.array(kept.groups)
    n_clips = {number: len(set(groups[kept.truth == number])) for number in np.unique(kept.truth).tolist()}
    per_class = {}
    for number in sorted(n_clips, key=lambda number: (-n_clips[number], number))[:MOST_CLASSES]:
        known = kept.truth != number
        thresholds, reason = _fit(kept.where(known), rate)
        if thresholds is None:
            return ValueOrReason(None, f"without {classes[number]}: {reason}")
        score = _score_of(kept.embeddings[known], kept.truth[known])
        means = means_by_group(_scores(score, kept.embeddings[~known]), groups[~known])
        per_class[classes[number]] = RecognisedClips(len(means), int((np.array(means) < thresholds.clip).sum()))
    return ValueOrReason(LeftOutClasses(dict(sorted(per_class.items()))), None)


def _fit(known: Predictions, rate: float | None) -> tuple[UnknownThresholds | None, str | None]:
    """Fit the thresholds of some classes to their scores out of fold."""
    folds = np.array([row.fold for row in known.rows])
    scores = np.zeros(len(folds), np.float32)
    for fold in np.unique(folds):
        learned: NDArray[np.bool_] = folds != fold
        if not learned.any():
            return None, "its clips lie in one fold"
        score = _score_of(known.embeddings[learned], known.truth[learned])
        scores[~learned] = _scores(score, known.embeddings[~learned])
    return fit_thresholds(scores, known.groups, rate)


def _score_of(embeddings: Embeddings, truth: NDArray[np.int64]) -> KnownScore:
    positions = spread_over_classes(truth)
    return fit_known_score(embeddings[positions].array(), truth[positions])


def _scores(score: KnownScore, embeddings: Embeddings) -> NDArray[np.float32]:
    return np.concatenate([score(block) for block in embeddings.blocks()])


def means_by_group(scores: NDArray[np.float32], groups: NDArray[np.str_]) -> list[np.float32]:
    """The mean score of each group, in the order of their names."""
    order = np.argsort(groups, kind="stable")
    starts = np.unique(groups[order], return_index=True)[1]
    return [of_group.mean() for of_group in np.split(scores[order], starts[1:])]
