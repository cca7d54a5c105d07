"""The verdict on a clip, by one rule for the device, for `pipe predict` and for every stage that judges clips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Thresholds:
    """Below them the score of a picture or clip says: none of the classes; None: nothing is refused."""

    frame: float | None  # for one picture
    clip: float | None  # for the mean score of a clip's frames


@dataclass(frozen=True)
class ClipVerdict:
    """The class of a clip."""

    class_number: int | None  # None: the clip shows none of the classes
    probabilities: NDArray[np.floating[Any]]  # (classes,), mean over the frames that count


def judge_clip(
    probabilities: NDArray[np.floating[Any]], scores: NDArray[np.floating[Any]], thresholds: Thresholds
) -> ClipVerdict:
    """Judge a clip by all its frames.

    The class is that of the largest mean probability over the frames that show a class, or over all frames where none
    does. The clip is refused where its mean score is below the clip's threshold. Without that threshold, which earlier
    contracts lack, it is refused where no frame shows a class.

    Args:
        probabilities: (frames, classes), at least one frame.
        scores: (frames,), the score of each that the thresholds are for.
        thresholds: of the graph that answered.
    """
    is_known = scores >= (-np.inf if thresholds.frame is None else thresholds.frame)
    means = probabilities[is_known if is_known.any() else slice(None)].mean(axis=0)
    is_refused = not is_known.any() if thresholds.clip is None else scores.mean() < thresholds.clip
    return ClipVerdict(None if is_refused else int(means.argmax()), means)
