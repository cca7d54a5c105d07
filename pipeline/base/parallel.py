"""Work per clip or per frame on every processor, through joblib."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from pipeline.base.child_process import ChildGroup, child_group
from pipeline.base.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(function: Callable[[Item], Result], items: Sequence[Item], description: str) -> Iterator[Result]:
    """Apply `function` to every item in as many threads as there are processors; results come in the order of items.

    The first error ends the work, as does closing the iterator; children started by `run_in_child` are then killed.
    """
    import joblib

    group = ChildGroup()

    def work(item: Item) -> Result:
        token = child_group.set(group)
        try:
            return function(item)
        finally:
            child_group.reset(token)

    parallel = joblib.Parallel(n_jobs=-1, backend="threading", return_as="generator")
    results = parallel(joblib.delayed(work)(item) for item in items)
    try:
        yield from track(results, description, len(items))
    finally:
        group.stop()
        with warnings.catch_warnings(action="ignore"):  # joblib warns of work that was cancelled, as was asked here
            results.close()


def threads_for_each(n_items: int) -> int:
    """How many threads each of some items may use, so that `each` keeps every processor busy and no more."""
    import joblib

    processors: int = joblib.cpu_count()
    return max(1, processors // max(1, min(processors, n_items)))
