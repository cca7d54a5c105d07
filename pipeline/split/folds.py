"""Folds: every clip is judged once, by a head that learned from the clips of the other folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from pipeline.base.manifest import Row
from pipeline.split.assignment import Classes, assign_classes, assign_shared_groups
from pipeline.split.params import SplitParams
from pipeline.split.protocols import class_sizes

MOST_FOLDS = 5  # more cost time, and judge heads that learned from hardly more clips
FEWEST_FOLDS = 2

_ONE_CLIP = "{!r} has one clip or photo with kept frames; folds need two of each class, or see split.protocol: blocks"


@dataclass(frozen=True)
class Folds:
    """The fold of each group, or the reason why there are none."""

    n_folds: int  # 0: there are none
    fold_of: Mapping[str, int]  # by group
    reason: str | None  # why there are none

    def __post_init__(self) -> None:
        if (self.n_folds == 0) == (self.reason is None) or not set(self.fold_of.values()) <= set(range(self.n_folds)):
            raise ValueError(f"{self.n_folds} folds, reason {self.reason!r}: folds contradict themselves")

    def to_json(self) -> dict[str, Any]:
        """The number of folds, and the groups of each; null with the reason where there are none."""
        if self.reason is not None:
            return {"folds": None, "folds_reason": self.reason}
        sizes = [sum(fold == number for fold in self.fold_of.values()) for number in range(self.n_folds)]
        return {"folds": {"n_folds": self.n_folds, "groups": sizes}}


def no_folds(reason: str) -> Folds:
    """No folds, for a reason."""
    return Folds(0, MappingProxyType({}), reason)


def deal_folds(frames: Sequence[Row], params: SplitParams) -> Folds:
    """Deal the groups of every class to as many folds as the rarest class has groups, at most five.

    Every class has a group with kept frames outside each fold, so that each head learns all classes.

    Args:
        frames: all frames, in their groups; those that screening dropped get the fold of their group too.
        params: the section `split`. Only `protocol: grouped` that draws its test side by the ratio has folds.
    """
    if params.protocol != "grouped":
        return no_folds(f"split.protocol is {params.protocol}; folds need grouped")
    for name in ("counts", "folds", "hold_out"):
        if getattr(params, name) is not None:
            return no_folds(f"split.{name} says what is held out")
    sizes = class_sizes(frames)
    filled = {label: [group for group, n_kept in groups.items() if n_kept] for label, groups in sizes.items()}
    rarest = min(filled, key=lambda label: len(filled[label]))
    if len(filled[rarest]) < FEWEST_FOLDS:
        return no_folds(_ONE_CLIP.format(rarest))
    for n_folds in range(min(MOST_FOLDS, len(filled[rarest])), FEWEST_FOLDS - 1, -1):
        fold_of = _deal(sizes, n_folds, params.seed)
        if all(len({fold_of[group] for group in groups}) > 1 for groups in filled.values()):
            return Folds(n_folds, fold_of, None)
    return no_folds("groups of several classes leave a class with one fold only")


def _deal(sizes: Mapping[str, Mapping[str, int]], n_folds: int, seed: int) -> dict[str, int]:
    parts = {label: {str(fold): Fraction(1, n_folds) for fold in range(n_folds)} for label in sizes}
    classes = Classes(sizes, parts, seed)
    return {group: int(fold) for group, fold in assign_classes(classes, assign_shared_groups(classes)).items()}
