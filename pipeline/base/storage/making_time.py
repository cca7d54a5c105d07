"""The time that cached arrays cost: what was spent on them now, and what making them took, now or earlier.

A run whose arrays lie ready spends less time than the first run did. With both numbers a run can state the time that
it would have taken without a cache.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class MakingTime:
    """The time of the arrays that were read or made inside a block of `making_time`, in seconds."""

    spent: float = 0.0  # in this block, on reading or making them
    made: dict[Path, float] = field(default_factory=dict)  # by file: what making it took, in this process or earlier


_CURRENT: ContextVar[MakingTime | None] = ContextVar("making_time", default=None)


@contextlib.contextmanager
def making_time() -> Iterator[MakingTime]:
    """Add up the time of all arrays that this thread reads or makes inside the block.

    A block inside another one adds up its own arrays, and the outer block does not count them.
    """
    times = MakingTime()
    token = _CURRENT.set(times)
    try:
        yield times
    finally:
        _CURRENT.reset(token)


def add_array(file: Path, spent: float, made: float) -> None:
    """Count an array in the innermost block, if there is one.

    Args:
        file: of the array; what making it took counts once, however often it is read.
        spent: seconds spent on it now.
        made: seconds that making it took.
    """
    times = _CURRENT.get()
    if times is not None:
        times.spent += spent
        times.made[file] = made
