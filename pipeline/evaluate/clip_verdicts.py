"""One verdict per group (a clip or photo), and numbers over groups: right ones by class, and against a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.base.numbers.share_intervals import share_interval
from pipeline.evaluate.evaluation import ClassGroups, GroupNumbers
from pipeline.evaluate.metrics import Floats, Integers
from pipeline.evaluate.paired import PairedTest, paired_test


@dataclass(frozen=True)
class Verdict:
    """The class that the frames of one group show together."""

    group: str
    truth: int  # class number
    predicted: int  # the class of the largest mean probability: the verdict that counts
    vote: int  # the class that most frames are called; of tied classes the one with the larger mean probability
    n_frames: int
    n_frames_right: int
    mean_probabilities: tuple[float, ...]  # by class number

    def to_row(self, classes: Sequence[str]) -> dict[str, Any]:
        """A row of `reports/plots/verdicts.csv`."""
        return {
            "group": self.group,
            "label": classes[self.truth],
            "verdict": classes[self.predicted],
            "vote": classes[self.vote],
            "frames": self.n_frames,
            "frames_right": self.n_frames_right,
            "mean_probability": f"{self.mean_probabilities[self.predicted]:.6f}",
            "mean_probability_of_label": f"{self.mean_probabilities[self.truth]:.6f}",
        }


def group_verdicts(groups: Sequence[str], truth: Integers, probabilities: Floats) -> list[Verdict]:
    """One verdict per group, in the order of the groups' names; one per label of a group that holds several.

    Args:
        groups: (n,) the group of each frame.
        truth: (n,) class numbers.
        probabilities: (n, classes).
    """
    names, name_of_frame = np.unique(np.array(groups), return_inverse=True)
    # A group is cut by its labels: the parts of a clip that show two classes are two answers.
    parts, group_of_frame = np.unique(name_of_frame * probabilities.shape[1] + truth, return_inverse=True)
    predicted = probabilities.argmax(axis=1)
    n_frames = np.bincount(group_of_frame)
    sums = np.zeros((len(parts), probabilities.shape[1]))
    np.add.at(sums, group_of_frame, probabilities)
    means = sums / n_frames[:, None]
    votes = _counts(group_of_frame, predicted, means.shape)
    n_right = np.bincount(group_of_frame, weights=predicted == truth).astype(int)
    return [
        Verdict(
            group=str(names[part // probabilities.shape[1]]),
            truth=int(part % probabilities.shape[1]),
            predicted=int(means[index].argmax()),
            vote=int(np.where(votes[index] == votes[index].max(), means[index], -1.0).argmax()),
            n_frames=int(n_frames[index]),
            n_frames_right=int(n_right[index]),
            mean_probabilities=tuple(means[index].tolist()),
        )
        for index, part in enumerate(parts)
    ]


def _counts(group_of_frame: Integers, class_of_frame: Integers, shape: tuple[int, ...]) -> Integers:
    """Frames by group and class."""
    counts = np.zeros(shape, dtype=np.int64)
    np.add.at(counts, (group_of_frame, class_of_frame), 1)
    return counts


def numbers_over_groups(verdicts: Sequence[Verdict], n_folds: int | None = None) -> GroupNumbers:
    """Count the right verdicts, with the interval of their share, and beside them the right votes.

    Args:
        verdicts: of held-out groups, or out of fold.
        n_folds: None where groups were held out.
    """
    n_right = sum(verdict.predicted == verdict.truth for verdict in verdicts)
    n_right_by_vote = sum(verdict.vote == verdict.truth for verdict in verdicts)
    return GroupNumbers(len(verdicts), n_right, n_right_by_vote, share_interval(n_right, len(verdicts), n_folds))


def groups_per_class(
    verdicts: Sequence[Verdict], classes: Sequence[str], n_folds: int | None = None
) -> dict[str, ClassGroups]:
    """Groups of each class, how many of them are called right, and the interval of that share.

    Args:
        verdicts: of held-out groups, or out of fold.
        classes: the names of the classes, by their numbers.
        n_folds: None where groups were held out.
    """
    numbers = {}
    for index, name in enumerate(classes):
        of_class = [verdict for verdict in verdicts if verdict.truth == index]
        n_right = sum(verdict.predicted == index for verdict in of_class)
        numbers[name] = ClassGroups(len(of_class), n_right, share_interval(n_right, len(of_class), n_folds))
    return numbers


def compare_by_group(trained: Sequence[Verdict], baseline: Sequence[Verdict]) -> PairedTest:
    """Compare two classifiers on the groups that both judged."""
    trained_right, baseline_right = _right_by_group(trained), _right_by_group(baseline)
    if differing := trained_right.keys() ^ baseline_right.keys():
        raise ValueError(f"{len(differing)} groups were judged by one classifier only; expected the same groups")
    return paired_test(
        np.array(list(trained_right.values())), np.array([baseline_right[group] for group in trained_right])
    )


def _right_by_group(verdicts: Sequence[Verdict]) -> dict[tuple[str, int], bool]:
    """Whether the verdict on each group and label is right."""
    return {(verdict.group, verdict.truth): verdict.predicted == verdict.truth for verdict in verdicts}
