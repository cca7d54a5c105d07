"""The assignment of whole groups to sides: pure arithmetic, whose result does not depend on the order of the groups."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from types import MappingProxyType

from pipeline.base.manifest import UNUSED
from pipeline.base.numbers.quotas import Rounding, Shares, class_quotas, group_quotas

# So few that another seed gives another split of a small data set: with many tries each seed would find the best one.
_TRIES = 8
_NONE_PINNED: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Classes:
    """The groups of every class, and how many of them each side should get."""

    sizes: Mapping[str, Mapping[str, int]]  # by class, the number of kept frames of each group
    shares: Mapping[str, Shares]  # by class, the share of each side, with the same sides in every class
    seed: int  # another seed gives another arrangement
    rounding: Rounding = "nearest"  # as in `group_quotas`
    least: int = 1  # groups with frames that each side of a class gets


def assign_classes(classes: Classes, settled: Mapping[str, str]) -> dict[str, str]:
    """Assign the groups of one class after the other.

    Args:
        classes: all classes.
        settled: the sides of groups that must stay, with those that `assign_shared_groups` chose. The others make up
            for them as far as they can.

    Returns:
        The side of each group.
    """
    side_of: dict[str, str] = {}
    for label, frames_by_group in classes.sizes.items():
        shares = classes.shares[label]
        side_of |= assign_groups(
            frames_by_group, shares, classes.seed, rounding=classes.rounding, pinned=settled, least=classes.least
        )
    return side_of


def assign_shared_groups(classes: Classes, pinned: Mapping[str, str] = _NONE_PINNED) -> dict[str, str]:
    """Assign the groups that hold several classes, before the others.

    Args:
        classes: all classes.
        pinned: the sides of groups that must stay.

    Returns:
        The side of each such group that is not pinned: as near to the shares of all its classes as the best of several
        seeded orders comes.
    """
    sizes, shares = classes.sizes, classes.shares
    times_listed = Counter(group for groups in sizes.values() for group in groups)
    shared = {group for group, times in times_listed.items() if times > 1} - pinned.keys()
    if not shared:
        return {}
    quotas = {label: class_quotas(len(groups), shares[label], classes.rounding) for label, groups in sizes.items()}
    free = {
        label: {side: quota - counts[side] for side, quota in quotas[label].items()}
        for label, groups in sizes.items()
        for counts in [count_by_side((pinned[group] for group in groups if group in pinned), shares[label])]
    }
    tries = [_deal_shared(_shuffled(shared, classes.seed, attempt), sizes, quotas, free) for attempt in range(_TRIES)]
    return min(tries, key=lambda sides: _shortfall({**pinned, **sides}, sizes, quotas))


def assign_groups(
    frames_by_group: Mapping[str, int],
    shares: Shares,
    seed: int,
    *,
    rounding: Rounding = "nearest",
    pinned: Mapping[str, str] = _NONE_PINNED,
    least: int = 1,
) -> dict[str, str]:
    """Assign the groups of one class to sides.

    Each side gets the number of groups that `group_quotas` computes, and at least `least`. Of several seeded
    arrangements with these numbers the one whose frames come closest to the shares is taken.

    Args:
        frames_by_group: number of kept frames of each group. Groups without any are assigned by the same shares,
            apart from the others and with no minimum.
        shares: the share of the groups that each side should get. The shares add up to 1. Where `least` is 1, there are
            at least as many groups with frames as sides, not counting those pinned to a side which has another.
        seed: another seed gives another arrangement.
        rounding: as in `group_quotas`.
        pinned: the sides of groups that must stay. The others are assigned so that all together come closest to the
            shares.
        least: groups with frames that each side gets at least, 0 or 1.

    Returns:
        The side of each group.
    """
    filled = {group: frames for group, frames in frames_by_group.items() if frames}
    empty = dict.fromkeys(frames_by_group.keys() - filled.keys(), 0)
    best: dict[str, str] = {}
    for groups, minimum in ((filled, least), (empty, 0)):
        settled = {group: pinned[group] for group in groups if group in pinned}
        counts = count_by_side(settled.values(), shares)
        at_least = {side: max(0 if side == UNUSED else minimum, counts[side]) for side in shares}
        quotas = group_quotas(len(groups), shares, at_least=at_least, rounding=rounding)
        free = {side: quotas[side] - counts[side] for side in shares}
        best |= settled | _arrange(groups, free, settled, shares, seed)
    return best


@dataclass(frozen=True)
class Stretches:
    """The time of one clip, cut into one contiguous stretch per side, with a guard gap around every cut."""

    sides: Sequence[str]  # in the order of time
    cuts: Sequence[float]  # seconds, ascending; one fewer than sides
    guard_seconds: float

    def side_at(self, time_seconds: float) -> str:
        """The side of a frame. Frames of two sides are at least the guard apart; those within a gap are `unused`."""
        if any(abs(time_seconds - cut) < self.guard_seconds / 2 for cut in self.cuts):
            return UNUSED
        return self.sides[bisect_right(self.cuts, time_seconds)]


def cut_clip(clip: str, kept_seconds: Sequence[float], shares: Shares, guard_seconds: float, seed: int) -> Stretches:
    """Cut a clip where its sides have their shares of the kept frames, before the guard gaps are taken out.

    The order of the sides is drawn from the seed and the clip's name.

    Args:
        clip: the clip's name.
        kept_seconds: presentation times of the kept frames, at least one.
        shares: the share of the frames that each side should get; they add up to 1.
        guard_seconds: time between the frames of two sides.
        seed: another seed gives other orders.
    """
    times = sorted(kept_seconds)
    at_least = dict.fromkeys(shares, int(len(times) >= len(shares)))
    quotas = group_quotas(len(times), shares, at_least=at_least)
    sides = _shuffled(shares, seed, clip)
    ends = accumulate(quotas[side] for side in sides[:-1])
    cuts = [(times[max(end - 1, 0)] + times[min(end, len(times) - 1)]) / 2 for end in ends]
    return Stretches(sides, cuts, guard_seconds)


def count_by_side(sides: Iterable[str], shares: Shares) -> dict[str, int]:
    """How often each side of `shares` occurs."""
    counts = Counter(sides)
    return {side: counts[side] for side in shares}


def _deal_shared(
    order: Sequence[str],
    sizes: Mapping[str, Mapping[str, int]],
    quotas: Mapping[str, Mapping[str, int]],
    free: Mapping[str, Mapping[str, int]],
) -> dict[str, str]:
    """Give each group in turn to the side on which its classes miss the largest parts of their quotas."""
    left = {label: dict(places) for label, places in free.items()}
    side_of: dict[str, str] = {}
    for group in order:
        labels = [label for label, groups in sizes.items() if group in groups]
        missing = {
            side: sum(Fraction(left[label][side], max(1, quotas[label][side])) for label in labels)
            for side in left[labels[0]]
            if side != UNUSED or all(left[label][UNUSED] > 0 for label in labels)  # else a side misses what was asked
        }
        side_of[group] = max(missing, key=missing.__getitem__)
        for label in labels:
            left[label][side_of[group]] -= 1
    return side_of


def _shortfall(
    side_of: Mapping[str, str], sizes: Mapping[str, Mapping[str, int]], quotas: Mapping[str, Mapping[str, int]]
) -> tuple[int, int]:
    """What a dealing leaves undone: sides of a class that stay empty whatever follows, and groups above a quota."""
    n_empty = n_above = 0
    for label, groups in sizes.items():
        filled = [group for group, frames in groups.items() if frames]
        present = {side_of[group] for group in filled if group in side_of}
        n_single = sum(group not in side_of for group in filled)
        wanted = {side for side, quota in quotas[label].items() if quota and side != UNUSED}
        n_empty += max(0, len(wanted - present) - n_single)
        dealt = count_by_side((side_of[group] for group in groups if group in side_of), quotas[label])
        n_above += sum(max(0, dealt[side] - quota) for side, quota in quotas[label].items())
    return n_empty, n_above


def _arrange(
    groups: Mapping[str, int], free: Mapping[str, int], settled: Mapping[str, str], shares: Shares, seed: int
) -> dict[str, str]:
    """Assign the groups that are not settled to the free places of each side; the best of several arrangements."""
    new = groups.keys() - settled.keys()
    if len(set(groups.values())) <= 1:  # all arrangements are equally good
        return _deal(_shuffled(new, seed, 0), free)
    tries = [_deal(_shuffled(new, seed, attempt), free) for attempt in range(_TRIES)]
    return min(tries, key=lambda sides: _distance({**settled, **sides}, groups, shares))


def _shuffled(names: Iterable[str], seed: int, salt: int | str) -> list[str]:
    # By hash and not by a random generator: the order depends on the names alone, in every version of every library.
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}\n{salt}\n{name}".encode()).digest())


def _deal(groups: Sequence[str], free: Mapping[str, int]) -> dict[str, str]:
    sides = [side for side, n_groups in free.items() for _ in range(n_groups)]
    return dict(zip(groups, sides, strict=True))


def _distance(sides: Mapping[str, str], frames_by_group: Mapping[str, int], shares: Shares) -> float:
    """How far the frames of the sides are from the shares: the sum of the differences, as shares."""
    achieved = dict.fromkeys(shares, 0)
    for group, side in sides.items():
        achieved[side] += frames_by_group[group]
    total = sum(frames_by_group.values())
    return sum(abs(achieved[side] / total - float(share)) for side, share in shares.items())
