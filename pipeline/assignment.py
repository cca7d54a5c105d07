"""Whole groups onto sides: pure arithmetic, the same for the same groups in whatever order they come."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

# Few enough that another seed gives another split of a small data set, where all the best arrangements are soon seen.
_TRIES = 8


def assign_groups(frames_by_group: Mapping[str, int], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Put the groups of one class on sides.

    Each side gets the whole number of groups nearest to its share, and at least one; of several seeded arrangements
    with these numbers the one whose frames come closest to the shares wins.

    Args:
        frames_by_group: number of kept frames of each group. Groups without any are dealt out by the same shares,
            beside the others and with no minimum.
        shares: what each side should get; they add up to 1, and there are at least as many groups with frames.
        seed: another seed, another arrangement.

    Returns:
        The side of each group.
    """
    filled = {group: frames for group, frames in frames_by_group.items() if frames}
    empty = frames_by_group.keys() - filled.keys()
    quotas = group_quotas(len(filled), shares, at_least=1)
    tries = [_deal(_shuffled(filled, seed, number), quotas) for number in range(_TRIES)]
    best = min(tries, key=lambda sides: _distance(sides, filled, shares))
    return best | _deal(_shuffled(empty, seed, 0), group_quotas(len(empty), shares, at_least=0))


def group_quotas(n_groups: int, shares: Mapping[str, float], *, at_least: int) -> dict[str, int]:
    """Whole numbers that add up to `n_groups`, each within one of its share unless `at_least` forbids it.

    Largest remainder: every share is rounded down, and what is left goes where most is missing.
    """
    ideal = {side: n_groups * share for side, share in shares.items()}
    quotas = {side: max(at_least, int(groups)) for side, groups in ideal.items()}
    while sum(quotas.values()) < n_groups:
        quotas[max(quotas, key=lambda side: ideal[side] - quotas[side])] += 1
    while sum(quotas.values()) > n_groups:
        spare = [side for side in quotas if quotas[side] > at_least]
        quotas[max(spare, key=lambda side: quotas[side] - ideal[side])] -= 1
    return quotas


def _shuffled(groups: Mapping[str, int] | set[str], seed: int, number: int) -> list[str]:
    # By hash and not by a random generator: the order hangs on the names alone, in every version of every library.
    return sorted(groups, key=lambda group: hashlib.sha256(f"{seed}\n{number}\n{group}".encode()).digest())


def _deal(groups: list[str], quotas: Mapping[str, int]) -> dict[str, str]:
    sides = [side for side, number in quotas.items() for _ in range(number)]
    return dict(zip(groups, sides, strict=True))


def _distance(sides: Mapping[str, str], frames_by_group: Mapping[str, int], shares: Mapping[str, float]) -> float:
    achieved = dict.fromkeys(shares, 0)
    for group, side in sides.items():
        achieved[side] += frames_by_group[group]
    total = sum(frames_by_group.values())
    return sum(abs(achieved[side] / total - share) for side, share in shares.items())
