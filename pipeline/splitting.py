"""The parts of the section `split` that are sections of their own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.base.section import Section


class SplitCounts(Section):
    """How many groups (for `random`: images) of each class a side gets; what is over stays unused."""

    train: Annotated[int, Field(ge=1)]
    val: Annotated[int, Field(ge=0)]
    test: Annotated[int, Field(ge=1)]


class NearDuplicateParams(Section):
    """Which pictures count as the same."""

    search: bool
    hash_bits: Annotated[int, Field(ge=0, le=6)]  # propose: at most so many of 64 bits differ
    correlation: Annotated[float, Field(gt=0, lt=1)]  # confirm: nine tenths of the textured overlap agree so well
