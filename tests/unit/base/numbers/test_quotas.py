"""How many groups each side gets, and how many a class needs for a side to get so many."""

from __future__ import annotations

from fractions import Fraction

import pytest

from pipeline.base.numbers.quotas import (
    Rounding,
    class_quotas,
    group_quotas,
    groups_for_quota,
    share_of_test,
    shares_of_ratio,
)

EIGHT_TWO = {"train": 0.64, "val": 0.16, "test": 0.2}
ONE_EACH = dict.fromkeys(EIGHT_TWO, 1)


@pytest.mark.parametrize(
    ("n_groups", "expected"),
    [
        (3, {"train": 1, "val": 1, "test": 1}),
        (5, {"train": 3, "val": 1, "test": 1}),
        (14, {"train": 9, "val": 2, "test": 3}),
        (100, {"train": 64, "val": 16, "test": 20}),
    ],
)
def test_the_numbers_of_8_to_2(n_groups: int, expected: dict[str, int]) -> None:
    assert group_quotas(n_groups, EIGHT_TWO, at_least=ONE_EACH) == expected


def test_a_tiny_share_gets_one_group_at_the_cost_of_the_largest_share() -> None:
    shares = {"train": 0.98, "val": 0.01, "test": 0.01}
    assert group_quotas(4, shares, at_least=ONE_EACH) == {"train": 2, "val": 1, "test": 1}


def test_rounding_down_gives_the_rest_to_training() -> None:
    shares = {"train": Fraction(9, 10), "test": Fraction(1, 10)}
    for n_groups, test in ((10, 1), (19, 1), (20, 2), (70, 7), (79, 7)):
        quotas = group_quotas(n_groups, shares, at_least=dict.fromkeys(shares, 1), rounding="down")
        assert quotas == {"train": n_groups - test, "test": test}
    assert group_quotas(79, shares, at_least=dict.fromkeys(shares, 1))["test"] == 8


def test_a_class_with_fewer_groups_than_sides_leaves_one_empty() -> None:
    assert class_quotas(2, EIGHT_TWO) == {"train": 1, "val": 0, "test": 1}
    assert class_quotas(3, EIGHT_TWO) == ONE_EACH


def test_a_ratio_and_the_share_of_validation_give_the_share_of_each_side() -> None:
    assert share_of_test("0.75:0.25") == Fraction(1, 4)
    assert shares_of_ratio("8:2", 0.2) == {"train": Fraction(16, 25), "val": Fraction(4, 25), "test": Fraction(1, 5)}
    assert shares_of_ratio("9:1", None) == {"train": Fraction(9, 10), "test": Fraction(1, 10)}


@pytest.mark.parametrize("rounding", ["nearest", "down"])
@pytest.mark.parametrize(("ratio", "val"), [("8:2", 0.2), ("8:2", None), ("1:1", 0.5), ("99:1", 0.01)])
def test_so_many_groups_give_a_side_its_quota_and_no_smaller_number_that_fills_all_sides_does(
    rounding: Rounding, ratio: str, val: float | None
) -> None:
    shares = shares_of_ratio(ratio, val)
    for quota in range(1, 12):
        n_groups = groups_for_quota(quota, "test", shares, rounding)
        assert class_quotas(n_groups, shares, rounding)["test"] >= quota
        fewer = [class_quotas(n, shares, rounding)["test"] for n in range(len(shares), n_groups)]
        assert all(tested < quota for tested in fewer)


def test_six_test_clips_of_8_to_2_need_27_clips_although_one_of_three_is_tested_now() -> None:
    shares = shares_of_ratio("8:2", 0.2)
    assert class_quotas(3, shares)["test"] == 1
    assert groups_for_quota(6, "test", shares) == 27
    assert groups_for_quota(6, "test", shares, "down") == 30
