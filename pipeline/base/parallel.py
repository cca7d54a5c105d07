"""Parallel work per clip or per frame, through joblib."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from pipeline.base.child_process import ChildGroup, child_group
from pipeline.base.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(function: Callable[[Item], Result], items: Sequence[Item], description: str) -> Iterator[Result]:
    """Apply a function to every item, in as many threads as there are processors.

    The first error ends the work, and so does closing the iterator. Both kill the children that `run_in_child` started.

    Args:
        function: runs in a thread; it must release the GIL, or start a child, to gain anything.
        items: the work.
        description: the words beside the progress bar.

    Yields:
        The results, in the order of the items.
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
        with warnings.catch_warnings(action="ignore"):  # joblib warns of cancelled work, which is intended here
            results.close()


def threads_for_each(n_items: int) -> int:
    """How many threads each item may use, so that `each` keeps every processor busy and starts no more threads."""
    import joblib

    processors: int = joblib.cpu_count()
    return max(1, processors // max(1, min(processors, n_items)))
