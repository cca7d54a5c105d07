"""Folds: every clip is judged once, by a head that learned from the clips of the other folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from types import MappingProxyType
from typing import Any

from pipeline.base.manifest import Row
from pipeline.split.assignment import Classes, assign_classes, assign_shared_groups
from pipeline.split.params import SplitParams
from pipeline.split.protocols import class_sizes

MOST_FOLDS = 5  # more cost time, and judge heads that learned from hardly more clips
FEWEST_FOLDS = 2
_NONE_KEPT: Mapping[str, int] = MappingProxyType({})

_ONE_CLIP = "{!r} has one clip or photo with kept frames; folds need two of each class, or see split.protocol: blocks"
_ONE_FOLD = (
    "data/split.keep.csv keeps all clips of {!r} in one fold, and folds need two; film one more, "
    "or `pipe split --reshuffle`"
)


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


def deal_folds(frames: Sequence[Row], params: SplitParams, kept: Mapping[str, int] = _NONE_KEPT) -> Folds:
    """Deal the groups of every class to as many folds as the rarest class has groups, at most five.

    Every class has a group with kept frames outside each fold, so that each head learns all classes. There are never
    fewer folds than the kept ones, and more of them only where new groups can fill these as far as the others.

    Args:
        frames: all frames, in their groups; those that screening dropped get the fold of their group too.
        params: the section `split`. Only `protocol: grouped` that draws its test side by the ratio has folds.
        kept: the folds of groups that must stay.
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
    fewest = max(FEWEST_FOLDS, max(kept.values(), default=-1) + 1)
    most = max(fewest, min(MOST_FOLDS, len(filled[rarest])))
    for n_folds in range(most, fewest - 1, -1):
        if n_folds > fewest and not _can_be_even(filled.values(), n_folds, kept):
            continue
        fold_of = _without_gaps(_deal(sizes, n_folds, params.seed, kept), filled.values())
        if all(len({fold_of[group] for group in groups}) > 1 for groups in filled.values()):
            return Folds(len(set(fold_of.values())), fold_of, None)
    for label, groups in filled.items() if kept else ():
        if groups[0] in kept and len({kept.get(group) for group in groups}) == 1:
            return no_folds(_ONE_FOLD.format(label))
    return no_folds("groups of several classes leave a class with one fold only")


def _deal(sizes: Mapping[str, Mapping[str, int]], n_folds: int, seed: int, kept: Mapping[str, int]) -> dict[str, int]:
    parts = {label: {str(fold): Fraction(1, n_folds) for fold in range(n_folds)} for label in sizes}
    # A class that came later may have fewer groups than there are folds.
    classes = Classes(sizes, parts, seed, least=0)
    pinned = {group: str(fold) for group, fold in kept.items()}
    settled = {**pinned, **assign_shared_groups(classes, pinned)}
    return {group: int(fold) for group, fold in assign_classes(classes, settled).items()}


def _can_be_even(classes: Iterable[Sequence[str]], n_folds: int, kept: Mapping[str, int]) -> bool:
    """Whether new groups can fill all folds of each class until none has two groups more than another."""
    for groups in classes:
        counts = Counter(kept[group] for group in groups if group in kept)
        n_needed = sum(max(counts[fold], len(groups) // n_folds) for fold in range(n_folds))
        if n_needed > len(groups) or max(counts.values(), default=0) > ceil(len(groups) / n_folds):
            return False
    return True


def _without_gaps(fold_of: Mapping[str, int], classes: Iterable[Sequence[str]]) -> dict[str, int]:
    """Number the folds that have a group with kept frames from 0, where all clips of a kept fold have gone."""
    used = sorted({fold_of[group] for groups in classes for group in groups})
    number = {fold: new for new, fold in enumerate(used)}
    return {group: number.get(fold, 0) for group, fold in fold_of.items()}
