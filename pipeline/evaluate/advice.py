"""What to film next, and whether there are too few clips to say anything."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import partial
from typing import Any

from pipeline.base.manifest import UNUSED, Row
from pipeline.base.numbers.quotas import groups_for_quota, shares_of_ratio
from pipeline.evaluate.evaluation import ClassNumbers, FilmMore, GroupNumbers
from pipeline.evaluate.intervals import clips_for_width, clips_that_show_most_are_right, more_to_halve

ClipsFor = Callable[[int], int]  # the clips that a class needs for so many of them to be judged

TOO_WIDE = 0.4  # a share that may be 20 points higher or lower says little
WANTED_WIDTH = 0.2  # what the advice aims at


def film_more(
    per_class: Mapping[str, ClassNumbers],
    n_clips: Mapping[str, int],
    clips_for: ClipsFor,
    n_folds: int | None = None,
) -> FilmMore:
    """Count the additional clips that would halve the widest interval of a class.

    Of classes with equally wide intervals the one with the lowest frame recall is taken, of these the one with the
    fewest clips, and of these the first.

    Args:
        per_class: the numbers over frames and over judged clips.
        n_clips: the clips of each class with kept frames, judged or not.
        clips_for: `every_clip` where each clip is judged, `clips_for_hold_out(...)` where some are held out.
        n_folds: of the folds that judged each clip once; None where clips were held out.
    """

    def urgency(name: str) -> tuple[float, float, int]:
        numbers = per_class[name]
        return -round(numbers.groups.interval.width, 9), round(numbers.frames.recall, 9), n_clips[name]

    name = min(per_class, key=urgency)
    judged = per_class[name].groups
    more = more_to_halve(judged.groups_right, judged.groups, n_folds)
    return FilmMore(name, more, max(more, clips_for(judged.groups + more) - n_clips[name]))


def every_clip(n_judged: int) -> int:
    """The clips that a class needs for so many to be judged, where every clip is judged."""
    return n_judged


def clips_for_hold_out(split_report: Mapping[str, Any], rows: Iterable[Row]) -> ClipsFor:
    """The clips that a class needs for so many to be held out, by the arithmetic of the split.

    Where no ratio and no folds draw the test side, new clips are taken to be divided as the old ones are.

    Args:
        split_report: the content of `reports/split.json`.
        rows: all rows of the split.
    """
    asked = split_report.get("asked", {})
    if split_report["protocol"] == "grouped" and "ratio" in asked and not (asked["counts"] or asked["hold_out"]):
        if not asked["folds"]:
            shares = shares_of_ratio(asked["ratio"], asked["val"])
            return partial(groups_for_quota, side="test", shares=shares, rounding=asked["rounding"])
        parts = {str(fold): Fraction(1, asked["folds"]) for fold in range(asked["folds"])}
        return partial(groups_for_quota, side=str(asked["fold"]), shares=parts)
    used = [row for row in rows if row.kept and row.split != UNUSED]
    held_out = {row.group for row in used if row.split == "test"}
    share = Fraction(len(held_out), len({row.group for row in used}))
    return lambda n_judged: math.ceil(n_judged / share)


def clips_of_class(rows: Iterable[Row]) -> dict[str, int]:
    """The clips or photos of each class that have kept frames on a side of the split."""
    return Counter(label for label, _ in {(row.label, row.group) for row in rows if row.kept and row.split != UNUSED})


def too_few(groups: GroupNumbers, n_of_rarest: int, n_folds: int | None = None) -> str | None:
    """Say in one sentence that the clips are too few to say how good the network is; None where they are not.

    Args:
        groups: the headline, over all classes.
        n_of_rarest: judged clips of the class that has the fewest.
        n_folds: of the folds that judged each clip once; None where clips were held out.
    """
    if groups.interval.width > TOO_WIDE:
        return (
            f"Too few clips to say how good the network is: the interval is {groups.interval.width * 100:.0f} points "
            f"wide, and {clips_for_width(groups.top1, WANTED_WIDTH, n_folds)} judged clips would make it "
            f"{WANTED_WIDTH * 100:.0f} if the share of right ones stays"
        )
    fewest = clips_that_show_most_are_right()
    if n_of_rarest < fewest:
        return (
            f"Too few clips to say how good the network is on each class: a class has {n_of_rarest} judged clips, and "
            f"fewer than {fewest} cannot show that more than half of new ones will be right"
        )
    return None
