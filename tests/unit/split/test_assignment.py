"""The assignment of groups to sides: the numbers, and what the arrangement depends on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from itertools import groupby, pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.numbers.quotas import Shares
from pipeline.split.assignment import (
    Classes,
    assign_classes,
    assign_groups,
    assign_shared_groups,
    cut_clip,
)

EIGHT_TWO = {"train": 0.64, "val": 0.16, "test": 0.2}
ONE_EACH = dict.fromkeys(EIGHT_TWO, 1)

sizes = st.dictionaries(st.text(min_size=1, max_size=8), st.integers(1, 500), min_size=3, max_size=60)
parts = st.lists(st.floats(0.01, 1), min_size=2, max_size=3)


def assigned(sizes: Mapping[str, Mapping[str, int]], shares: Mapping[str, Shares], seed: int) -> dict[str, str]:
    """The sides of the groups of several classes, and then those of the others."""
    classes = Classes(sizes, shares, seed)
    return assign_classes(classes, assign_shared_groups(classes))


def as_shares(weights: list[float]) -> dict[str, float]:
    return {side: weight / sum(weights) for side, weight in zip(("train", "test", "val"), weights, strict=False)}


@settings(deadline=None, max_examples=150)
@given(sizes, parts, st.integers(0, 5))
def test_every_side_gets_a_group_and_within_one_of_its_share(
    frames_by_group: dict[str, int], weights: list[float], seed: int
) -> None:
    shares = as_shares(weights)
    sides = assign_groups(frames_by_group, shares, seed)
    assert sides.keys() == frames_by_group.keys()
    for side, share in shares.items():
        n_groups, ideal = list(sides.values()).count(side), share * len(frames_by_group)
        assert n_groups >= 1
        forced = any(len(frames_by_group) * least < 1 for least in shares.values())  # a side gets one group at least
        assert abs(n_groups - ideal) < (len(shares) if forced else 1)


@settings(deadline=None, max_examples=50)
@given(sizes, st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_order_of_the_groups_does_not_matter(frames_by_group: dict[str, int], seed: int, random: Random) -> None:
    names = list(frames_by_group)
    random.shuffle(names)
    shuffled = {name: frames_by_group[name] for name in names}
    assert assign_groups(shuffled, EIGHT_TWO, seed) == assign_groups(frames_by_group, EIGHT_TWO, seed)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**31), st.integers(3, 30), st.integers(2, 4), st.floats(0, 0.8))
def test_groups_of_several_classes_have_one_side_and_leave_none_empty(
    data_seed: int, n_groups: int, n_classes: int, share_of_mixed: float
) -> None:
    random = Random(data_seed)
    sizes: dict[str, dict[str, int]] = {f"class{label}": {} for label in range(n_classes)}
    for number in range(n_groups):
        for label, groups in sizes.items():
            groups[f"{label} {number}"] = random.randint(1, 9)
        if random.random() < share_of_mixed:
            for label in random.sample(sorted(sizes), 2):
                sizes[label][f"mixed {number}"] = random.randint(1, 9)
    shares = dict.fromkeys(sizes, EIGHT_TWO)
    sides = assigned(sizes, shares, 0)
    assert sides.keys() == {group for groups in sizes.values() for group in groups}
    for groups in sizes.values():
        assert {sides[group] for group in groups} == set(EIGHT_TWO)
        for side, share in EIGHT_TWO.items():
            assert abs(sum(sides[group] == side for group in groups) - share * len(groups)) < 2


def test_classes_whose_groups_are_all_shared_are_divided_as_the_groups_allow() -> None:
    groups = {f"clip{number}": 5 for number in range(10)}
    sides = assigned({"a": groups, "b": groups}, {"a": EIGHT_TWO, "b": EIGHT_TWO}, 0)
    assert Counter(sides.values()) == {"train": 6, "val": 2, "test": 2}
    assert Counter(assigned({"a": groups, "b": groups}, {"a": EIGHT_TWO, "b": EIGHT_TWO}, 1).values()) == {
        "train": 6, "val": 2, "test": 2,
    }  # fmt: skip
    order = dict(reversed(groups.items()))
    assert assigned({"a": order, "b": groups}, {"a": EIGHT_TWO, "b": EIGHT_TWO}, 0) == sides


def test_without_shared_groups_each_class_is_assigned_as_by_itself() -> None:
    sizes = {label: {f"{label}{number}": 3 + number for number in range(7)} for label in "ab"}
    alone = {group: side for groups in sizes.values() for group, side in assign_groups(groups, EIGHT_TWO, 0).items()}
    assert assigned(sizes, dict.fromkeys(sizes, EIGHT_TWO), 0) == alone


def test_another_seed_gives_another_arrangement() -> None:
    frames_by_group = {f"clip{number}": 60 for number in range(12)}
    arrangements = {tuple(assign_groups(frames_by_group, EIGHT_TWO, seed).items()) for seed in range(5)}
    assert len(arrangements) == 5


def test_five_clips_of_unlike_length_still_differ_between_seeds() -> None:
    frames_by_group = {"a": 13, "b": 14, "c": 15, "d": 16, "e": 17}
    assert len({tuple(sorted(assign_groups(frames_by_group, EIGHT_TWO, seed).items())) for seed in range(10)}) >= 3


@pytest.mark.parametrize("seed", range(10))
def test_the_arrangement_whose_frames_come_closest_wins(seed: int) -> None:
    frames_by_group = {"long": 600} | {f"short{number}": 10 for number in range(4)}
    assert assign_groups(frames_by_group, EIGHT_TWO, seed)["long"] == "train"


def test_pinned_groups_stay_and_the_new_ones_fill_what_is_missing() -> None:
    clips = {f"clip{number:02}": 10 for number in range(10)}
    pinned = {"clip00": "train", "clip01": "test", "clip02": "test", "clip03": "test"}
    sides = assign_groups(clips, EIGHT_TWO, 0, pinned=pinned)
    assert {group: sides[group] for group in pinned} == pinned
    assert sorted(sides.values()) == ["test"] * 3 + ["train"] * 6 + ["val"]


def test_more_pinned_groups_than_a_side_was_to_have_cost_no_other_side_its_number() -> None:
    clips = {f"clip{number}": 5 for number in range(6)}
    shares = {"train": Fraction(2, 6), "test": Fraction(2, 6), "unused": Fraction(2, 6)}
    sides = assign_groups(clips, shares, 0, pinned=dict.fromkeys(list(clips)[:3], "train"))
    assert Counter(sides.values()) == {"train": 3, "test": 2, "unused": 1}


@pytest.mark.parametrize("seed", range(5))
def test_groups_of_two_classes_are_left_over_only_where_both_classes_have_groups_to_spare(seed: int) -> None:
    shared = {f"both{number}": 5 for number in range(12)}
    sizes = {"a": shared, "b": shared | {f"b{number}": 5 for number in range(88)}}
    asked = {"train": 10, "test": 1}
    shares = {
        label: {side: Fraction(count, len(groups)) for side, count in asked.items()}
        | {"unused": Fraction(len(groups) - 11, len(groups))}
        for label, groups in sizes.items()
    }
    sides = assigned(sizes, shares, seed)
    for groups in sizes.values():
        assert Counter(sides[group] for group in groups) == {**asked, "unused": len(groups) - 11}


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(0, 40), st.integers(1, 6), st.integers(1, 3))
def test_asked_numbers_of_shared_groups_are_dealt_whatever_they_are(
    seed: int, n_shared: int, n_alone: int, n_train: int, n_test: int
) -> None:
    shared = {f"both{number}": 5 for number in range(n_shared + n_train + n_test)}
    sizes = {"a": shared, "b": shared | {f"b{number}": 5 for number in range(n_alone)}}
    asked = {"train": n_train, "test": n_test}
    shares = {
        label: {side: Fraction(count, len(groups)) for side, count in asked.items()}
        | {"unused": Fraction(len(groups) - n_train - n_test, len(groups))}
        for label, groups in sizes.items()
    }
    sides = assigned(sizes, shares, seed)
    for groups in sizes.values():
        dealt = Counter(sides[group] for group in groups)
        assert all(dealt[side] >= count for side, count in asked.items())
        assert sum(dealt.values()) == len(groups)


def test_groups_that_are_asked_to_be_left_over_are_unused() -> None:
    shares = {"train": Fraction(4, 10), "test": Fraction(2, 10), "unused": Fraction(4, 10)}
    sides = assign_groups({f"clip{number}": 5 for number in range(10)}, shares, 0)
    assert sorted(sides.values()) == ["test"] * 2 + ["train"] * 4 + ["unused"] * 4


clip_times = st.lists(st.integers(0, 10_000).map(lambda ms: ms / 100), min_size=3, max_size=60, unique=True)


@settings(deadline=None, max_examples=300)
@given(clip_times, st.floats(0, 5), st.integers(0, 5))
def test_stretches_are_contiguous_and_a_guard_apart(times: list[float], guard_seconds: float, seed: int) -> None:
    stretches = cut_clip("clip", times, EIGHT_TWO, guard_seconds, seed)
    sided = [(time, side) for time in sorted(times) if (side := stretches.side_at(time)) != "unused"]
    order = [side for side, _ in groupby(side for _, side in sided)]
    assert len(order) == len(set(order))
    for (first, here), (second, there) in pairwise(sided):
        assert here == there or second - first >= guard_seconds - 1e-9


def test_without_a_guard_a_clip_is_cut_by_the_shares_and_another_seed_orders_them_anew() -> None:
    times = [float(second) for second in range(100)]
    orders = set()
    for seed in range(10):
        stretches = cut_clip("clip", times, EIGHT_TWO, 0.0, seed)
        assert Counter(stretches.side_at(time) for time in times) == {"train": 64, "val": 16, "test": 20}
        orders.add(tuple(stretches.sides))
    assert len(orders) > 2


def test_groups_without_frames_are_assigned_apart_from_the_others() -> None:
    frames_by_group = {f"clip{number}": 20 for number in range(10)}
    screened_out = {f"dark{number}": 0 for number in range(10)}
    sides = assign_groups(frames_by_group | screened_out, EIGHT_TWO, 0)
    assert {group: sides[group] for group in frames_by_group} == assign_groups(frames_by_group, EIGHT_TWO, 0)
    assert sorted(sides[group] for group in screened_out) == ["test"] * 2 + ["train"] * 6 + ["val"] * 2
