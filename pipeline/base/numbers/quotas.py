"""How many groups of a class each side of a split gets: the arithmetic that split deals by and evaluate plans by."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Literal

from pipeline.base.manifest import UNUSED

Shares = Mapping[str, Fraction] | Mapping[str, float]
Rounding = Literal["nearest", "down"]


def group_quotas(
    n_groups: int, shares: Shares, *, at_least: Mapping[str, int], rounding: Rounding = "nearest"
) -> dict[str, int]:
    """The number of groups of each side: each within one of its share unless `at_least` forbids it.

    Args:
        n_groups: the sum of the numbers.
        shares: the share of each side; they add up to 1.
        at_least: the least number of each side.
        rounding: all shares are rounded down. With `nearest` the groups that are left over go to the sides that miss
            most (the method of the largest remainder), with `down` to the first side.
    """
    ideal = {side: n_groups * share for side, share in shares.items()}
    quotas = {side: max(at_least[side], int(groups)) for side, groups in ideal.items()}
    while sum(quotas.values()) < n_groups:
        first = next(iter(quotas)) if rounding == "down" else max(quotas, key=lambda side: ideal[side] - quotas[side])
        quotas[first] += 1
    while sum(quotas.values()) > n_groups:
        spare = [side for side in quotas if quotas[side] > at_least[side]]
        # `unused` gives up groups first, since the sides were asked for and it was not.
        most = UNUSED if UNUSED in spare else max(spare, key=lambda side: quotas[side] - ideal[side])
        quotas[most] -= 1
    return quotas


def class_quotas(n_groups: int, shares: Shares, rounding: Rounding = "nearest") -> dict[str, int]:
    """The number of groups of each side in one class: at least one where there are enough for all sides.

    Args:
        n_groups: groups of the class.
        shares: the share of each side; they add up to 1.
        rounding: as in `group_quotas`.
    """
    sides = [side for side in shares if side != UNUSED]
    at_least = {side: int(side in sides and n_groups >= len(sides)) for side in shares}
    return group_quotas(n_groups, shares, at_least=at_least, rounding=rounding)


def groups_for_quota(quota: int, side: str, shares: Shares, rounding: Rounding = "nearest") -> int:
    """The least number of groups of a class of which a side gets so many, and every side at least one.

    Args:
        quota: the groups that the side should get, at least one.
        side: its name in `shares`.
        shares: the share of each side; they add up to 1.
        rounding: as in `group_quotas`.
    """
    # A quota above one is at most one above the share, so that fewer groups than these cannot be enough.
    n_groups = max(len(shares), int((quota - 1) / shares[side]))
    while class_quotas(n_groups, shares, rounding)[side] < quota:
        n_groups += 1
    return n_groups


def share_of_test(ratio: str) -> Fraction:
    """The test side's share of the data for a ratio such as 8:2; a fraction, so that rounding down is exact."""
    training, test = (Fraction(part) for part in ratio.split(":"))
    return test / (training + test)


def training_shares(val: float | None) -> dict[str, Fraction]:
    """The shares of train and val within the training part, which val is taken from."""
    if val is None:
        return {"train": Fraction(1)}
    share = Fraction(str(val))  # of the decimal text, so that 0.2 is exactly a fifth
    return {"train": 1 - share, "val": share}


def shares_of_ratio(ratio: str, val: float | None) -> dict[str, Fraction]:
    """The share of each class that a side should get; the ratio is (train + val) : test."""
    test = share_of_test(ratio)
    return {side: share * (1 - test) for side, share in training_shares(val).items()} | {"test": test}
