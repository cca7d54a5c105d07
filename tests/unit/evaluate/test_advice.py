from __future__ import annotations

from typing import Any

import pytest

from pipeline.base.manifest import Row
from pipeline.base.numbers.quotas import class_quotas, shares_of_ratio
from pipeline.base.numbers.share_intervals import exact_interval, out_of_fold_interval
from pipeline.evaluate.advice import (
    clips_for_hold_out,
    clips_of_class,
    every_clip,
    film_more,
    too_few,
)
from pipeline.evaluate.evaluation import ClassFrames, ClassGroups, ClassNumbers, FilmMore, GroupNumbers
from pipeline.evaluate.intervals import more_to_halve

ASKED = {"ratio": "8:2", "val": 0.2, "rounding": "nearest", "counts": None, "folds": None, "fold": 0, "hold_out": None}


def judged(n_right: int, n: int, recall: float = 1.0) -> ClassNumbers:
    return ClassNumbers(ClassFrames(1.0, recall, 1.0, 10), ClassGroups(n, n_right, exact_interval(n_right, n)))


def report(protocol: str = "grouped", **asked: Any) -> dict[str, Any]:
    return {"protocol": protocol, "asked": ASKED | asked}


def rows(**sides: str) -> list[Row]:
    """A kept frame of each group of `flake`, by the group's side."""
    return [
        Row(path=group, label="flake", source=group, source_sha256=group, group=group, split=side)
        for group, side in sides.items()
    ]


def test_the_class_to_film_is_the_one_whose_interval_is_widest() -> None:
    advice = film_more({"flake": judged(8, 10), "鳞片": judged(3, 3)}, {"flake": 10, "鳞片": 3}, every_clip)
    assert advice == FilmMore("鳞片", held_out=6, film=6)


def test_of_equally_wide_intervals_the_class_with_the_lowest_frame_recall_is_filmed() -> None:
    classes = {"a": judged(1, 1, recall=0.9), "b": judged(1, 1, recall=0.6), "c": judged(0, 1, recall=0.7)}
    assert film_more(classes, {"a": 3, "b": 7, "c": 4}, every_clip).class_name == "b"


def test_of_equal_recalls_the_class_with_the_fewest_clips_is_filmed_and_never_the_one_with_most() -> None:
    # With 8 : 2 classes of 3 to 7 clips have one held-out clip each: their intervals are equally wide.
    classes = {name: judged(1, 1) for name in ("many", "few", "some")}
    clips_for = clips_for_hold_out(report(), [])
    advice = film_more(classes, {"many": 7, "few": 3, "some": 5}, clips_for)
    assert advice == FilmMore("few", held_out=5, film=24)
    assert film_more(dict.fromkeys("ab", judged(1, 1)), {"a": 3, "b": 3}, clips_for).class_name == "a"


@pytest.mark.parametrize("rounding", ["nearest", "down"])
@pytest.mark.parametrize("n_clips", [3, 5, 14, 40])
def test_the_clips_to_film_are_as_many_as_the_splitter_needs_and_one_less_is_too_few(
    n_clips: int, rounding: Any
) -> None:
    def n_tested(n: int) -> int:
        return class_quotas(n, shares_of_ratio("8:2", 0.2), rounding)["test"]

    advice = film_more(
        {"a": judged(n_tested(n_clips), n_tested(n_clips))},
        {"a": n_clips},
        clips_for_hold_out(report(rounding=rounding), []),
    )
    wanted = n_tested(n_clips) + advice.held_out
    assert n_tested(n_clips + advice.film) >= wanted > n_tested(n_clips + advice.film - 1)


def test_where_every_clip_is_judged_all_that_are_filmed_count() -> None:
    advice = film_more({"a": judged(3, 3)}, {"a": 3}, every_clip)
    assert advice.to_json() == {
        "class": "a", "held_out": 6, "film": 6,
        "sentence": "To halve the widest interval of a class, film about 6 more clips of a",
    }  # fmt: skip


def test_out_of_fold_the_interval_that_is_shown_is_halved() -> None:
    groups = ClassGroups(20, 16, out_of_fold_interval(16, 20, 5))
    numbers = {"a": ClassNumbers(ClassFrames(1.0, 0.8, 1.0, 10), groups)}
    more = film_more(numbers, {"a": 20}, every_clip, n_folds=5).film
    assert more == more_to_halve(16, 20, 5)
    assert more > film_more(numbers, {"a": 20}, every_clip).film


def test_a_class_that_nobody_held_out_is_to_be_filmed_first() -> None:
    advice = film_more({"a": judged(3, 3), "b": judged(0, 0, recall=0.0)}, {"a": 9, "b": 2}, every_clip)
    assert advice == FilmMore("b", held_out=6, film=6)


def test_a_fold_of_five_judges_a_fifth_of_the_clips() -> None:
    clips_for = clips_for_hold_out(report(folds=5, fold=4), [])
    assert clips_for(1) == 5
    assert clips_for(2) == 10  # the last fold is the last to get a clip that is left over
    assert clips_for_hold_out(report(folds=5, fold=0), [])(2) == 6


@pytest.mark.parametrize(
    "split_report",
    [report("given"), report("random"), report(counts={"train": 2}), report(hold_out={"session": "b"})],
)
def test_where_no_ratio_draws_the_test_side_new_clips_are_divided_as_the_old_ones(split_report: Any) -> None:
    divided = rows(a="train", b="train", c="test", d="unused")
    assert clips_for_hold_out(split_report, divided)(4) == 12
    assert clips_for_hold_out(report("blocks"), rows(a="test", b="test"))(4) == 4


def test_clips_count_once_in_each_class_where_a_kept_frame_is_on_a_side() -> None:
    images = rows(a="train", b="test", c="unused")
    dropped = Row(path="d", label="flake", source="d", source_sha256="d", group="d", split="test", kept=False)
    assert clips_of_class([*images, *images, dropped]) == {"flake": 2}


def headline(n_right: int, n: int) -> GroupNumbers:
    return GroupNumbers(n, n_right, n_right, exact_interval(n_right, n))


def test_six_of_fifteen_fish_are_too_few_to_say_anything() -> None:
    assert too_few(headline(6, 15), 1) == (
        "Too few clips to say how good the network is: the interval is 51 points wide, and 100 judged clips would make "
        "it 20 if the share of right ones stays"
    )


def test_five_clips_of_a_class_are_too_few_although_76_of_all_are_enough() -> None:
    assert too_few(headline(40, 76), 5) == (
        "Too few clips to say how good the network is on each class: a class has 5 judged clips, and fewer than 6 "
        "cannot show that more than half of new ones will be right"
    )
    assert too_few(headline(40, 76), 6, n_folds=5) is None
    assert too_few(headline(40, 76), 0) is not None


def test_the_line_between_too_few_and_enough_is_an_interval_of_40_points() -> None:
    widths = {n: exact_interval(n - n // 5, n).width for n in range(10, 40)}
    assert min(widths.values()) < 0.4 < max(widths.values())
    for n, width in widths.items():
        assert (too_few(headline(n - n // 5, n), 10) is None) == (width <= 0.4)
