"""The section `split` of `params.yaml`."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.base.numbers.quotas import share_of_test
from pipeline.base.section import Section, Share


class SplitCounts(Section):
    """How many groups (for `random`: images) of each class a side gets; the others stay unused."""

    train: Annotated[int, Field(ge=1)]
    val: Annotated[int, Field(ge=0)]
    test: Annotated[int, Field(ge=1)]


class NearDuplicateParams(Section):
    """Which pictures count as near duplicates."""

    search: bool
    hash_bits: Annotated[int, Field(ge=0, le=6)]  # of 64, that may differ; more propose more pairs
    correlation: Annotated[float, Field(gt=0, lt=1)]  # that nine tenths of the textured overlap must reach


class HoldOut(Section):
    """What is held out as a whole for testing."""

    session: Annotated[str, Field(min_length=1)]  # a name of the column `session` of data/groups.csv


class SplitParams(Section):
    """Which groups train, and which are held out."""

    protocol: Literal["grouped", "blocks", "random", "given"]
    ratio: str
    val: Share | None
    rounding: Literal["nearest", "down"]
    counts: SplitCounts | None
    folds: Annotated[int, Field(ge=2)] | None
    fold: Annotated[int, Field(ge=0)]
    hold_out: HoldOut | None
    guard_seconds: Annotated[float, Field(ge=0)]
    group_pattern: str | None
    photo_groups: Literal["propose", "each", "confirmed"]
    augmented_in_test: bool
    seed: Annotated[int, Field(ge=0)]
    keep: bool  # whether groups keep the places that they have in data/split.keep.csv
    caveat: str | None
    near_duplicates: NearDuplicateParams

    @field_validator("ratio", mode="before")
    @classmethod
    def _check_ratio(cls, value: object) -> str:
        match = re.fullmatch(r"(\d+(?:\.\d+)?):(\d+(?:\.\d+)?)", str(value))
        if not match or not all(float(part) > 0 for part in match.groups()):
            raise ValueError(f'{value!r} is not a ratio; expected two positive numbers in quotes, such as "8:2"')
        return str(value)

    @field_validator("group_pattern")
    @classmethod
    def _check_pattern(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"{value!r} is not a regular expression ({error})") from error
        return value

    @model_validator(mode="after")
    def _check_together(self) -> SplitParams:
        for wrong, problem in (
            (self.augmented_in_test and self.protocol != "random", "augmented_in_test needs protocol: random"),
            (self.counts and self.protocol not in ("grouped", "random"), "counts needs protocol: grouped or random"),
            (self.folds and self.protocol != "grouped", "folds needs protocol: grouped"),
            (self.hold_out and self.protocol != "grouped", "hold_out needs protocol: grouped"),
            (self.hold_out and self.counts, "hold_out and counts exclude one another; set one to null"),
            (self.hold_out and self.folds, "hold_out and folds exclude one another; set one to null"),
            (self.folds and self.counts, "folds and counts exclude one another; set one to null"),
            (self.folds and self.fold >= self.folds, f"fold is {self.fold}; expected 0 to {(self.folds or 0) - 1}"),
        ):
            if wrong:
                raise ValueError(problem)
        return self

    @property
    def draws_test_groups(self) -> bool:
        """Whether the test groups are drawn once and may be pinned: folds and a held-out session settle them."""
        return self.protocol == "grouped" and self.folds is None and self.hold_out is None

    @property
    def asks_for_val(self) -> bool:
        """Whether there is to be a validation side."""
        return self.val is not None if self.counts is None else self.counts.val > 0

    @property
    def test_share(self) -> Fraction:
        """The test side's share of the data, between 0 and 1; a fraction, so that rounding down is exact."""
        return share_of_test(self.ratio)
