"""One verdict per clip (or photo), and what the clips say: right ones by class, and what to film next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.intervals import exact_interval, more_to_halve

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Verdict:
    """What the frames of one group say together."""

    group: str
    truth: int  # class number: that of most of its frames
    said: int  # the class of the largest mean probability: the verdict that counts
    vote: int  # the class that most frames are called; of equals the one with the larger mean probability
    n_frames: int
    n_frames_right: int
    mean_probabilities: tuple[float, ...]  # by class

    def as_row(self, classes: Sequence[str]) -> dict[str, Any]:
        """A row of `reports/plots/verdicts.csv`."""
        return {
            "group": self.group,
            "label": classes[self.truth],
            "verdict": classes[self.said],
            "vote": classes[self.vote],
            "frames": self.n_frames,
            "frames_right": self.n_frames_right,
            "mean_probability": f"{self.mean_probabilities[self.said]:.6f}",
            "mean_probability_of_label": f"{self.mean_probabilities[self.truth]:.6f}",
        }


def group_verdicts(groups: Sequence[str], truth: Integers, probabilities: Floats) -> list[Verdict]:
    """The verdicts in the order of the groups' names: groups and truth (n,), probabilities (n, classes)."""
    names, group_of_frame = np.unique(np.array(groups), return_inverse=True)
    predicted = probabilities.argmax(axis=1)
    n_frames = np.bincount(group_of_frame)
    sums = np.zeros((len(names), probabilities.shape[1]))
    np.add.at(sums, group_of_frame, probabilities)
    means = sums / n_frames[:, None]
    votes, labels = (_counts(group_of_frame, numbers, means.shape) for numbers in (predicted, truth))
    right = np.bincount(group_of_frame, weights=predicted == truth).astype(int)
    return [
        Verdict(
            group=str(name),
            truth=int(labels[number].argmax()),
            said=int(means[number].argmax()),
            vote=int(np.where(votes[number] == votes[number].max(), means[number], -1.0).argmax()),
            n_frames=int(n_frames[number]),
            n_frames_right=int(right[number]),
            mean_probabilities=tuple(means[number].tolist()),
        )
        for number, name in enumerate(names)
    ]


def _counts(group_of_frame: Integers, numbers: Integers, shape: tuple[int, ...]) -> Integers:
    counts = np.zeros(shape, dtype=np.int64)
    np.add.at(counts, (group_of_frame, numbers), 1)
    return counts


def false_alarms(groups: Sequence[str], logits: Floats, threshold: float | None) -> dict[str, float] | None:
    """The share of frames, and of groups in all their frames, that are taken for none of the classes.

    Args:
        groups: of n frames.
        logits: (n, classes).
        threshold: of the largest logit, below which a frame shows none of the classes; None: nothing is.
    """
    if threshold is None:
        return None
    is_unknown = logits.max(axis=1) < threshold
    known = {group for group, unknown in zip(groups, is_unknown, strict=True) if not unknown}
    return {"frames": float(is_unknown.mean()), "groups": 1 - len(known) / len(set(groups))}


def numbers_over_groups(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The headline: the share of right verdicts with its exact interval, and beside it that of the votes."""
    n_right = sum(verdict.said == verdict.truth for verdict in verdicts)
    n_votes_right = sum(verdict.vote == verdict.truth for verdict in verdicts)
    return {
        "n_groups": len(verdicts),
        "group_top1": n_right / len(verdicts),
        "group_top1_ci95": exact_interval(n_right, len(verdicts)),
        "groups_right": n_right,
        "group_top1_by_vote": n_votes_right / len(verdicts),
    }


def groups_per_class(verdicts: Sequence[Verdict], classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Groups of each class, how many of them got it, and the exact interval of their share."""
    numbers = {}
    for number, name in enumerate(classes):
        of_class = [verdict for verdict in verdicts if verdict.truth == number]
        n_right = sum(verdict.said == number for verdict in of_class)
        interval = exact_interval(n_right, len(of_class))
        numbers[name] = {"groups": len(of_class), "groups_right": n_right, "groups_ci95": interval}
    return numbers


def film_more(per_class: dict[str, dict[str, Any]], held_out_share: float) -> dict[str, Any]:
    """How many more clips of the class with the widest interval would halve it.

    Args:
        per_class: what `groups_per_class` gives; of equally wide ones the first is taken.
        held_out_share: of all clips, those that are judged: new ones are taken to be divided as those that there are.
    """
    name = max(per_class, key=lambda name: per_class[name]["groups_ci95"][1] - per_class[name]["groups_ci95"][0])
    held_out = more_to_halve(per_class[name]["groups_right"], per_class[name]["groups"])
    film = math.ceil(held_out / held_out_share)
    return {
        "class": name,
        "held_out": held_out,
        "film": film,
        "sentence": (
            f"To halve the widest interval of a class, film about {film} more clips of {name}, "
            f"of which {held_out} are held out as now"
        ),
    }
