"""The time that cached records cost: what was spent on them now, and what making them took, now or earlier.

A run whose records lie ready spends less time than the first run did. With both numbers a run can state the time that
it would have taken without a cache.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

RecordName = tuple[Path, str]  # the folder of a record, and its name


@dataclass
class MakingTime:
    """The time of the records that were read or made inside a block of `making_time`, in seconds."""

    spent: float = 0.0  # in this block, on reading or making them
    made: dict[RecordName, float] = field(default_factory=dict)  # what making each took, in this process or earlier


_CURRENT: ContextVar[MakingTime | None] = ContextVar("making_time", default=None)


@contextlib.contextmanager
def making_time() -> Iterator[MakingTime]:
    """Add up the time of all records that this thread reads or makes inside the block.

    A block inside another one adds up its own records, and the outer block does not count them.
    """
    times = MakingTime()
    token = _CURRENT.set(times)
    try:
        yield times
    finally:
        _CURRENT.reset(token)


def add_records(spent: float, made: Mapping[RecordName, float]) -> None:
    """Count records in the innermost block, if there is one.

    Args:
        spent: seconds spent on them now.
        made: seconds that making each took; a record counts once, however often it is read.
    """
    times = _CURRENT.get()
    if times is not None:
        times.spent += spent
        times.made.update(made)
