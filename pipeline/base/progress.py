"""Progress of long work: a bar on a terminal, and a line now and then in a log file."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from runtime.system.visible_text import visible

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 30.0  # in a log file: short work leaves no line there


def track(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """Yield `items`, and show a progress bar on standard error where that is a terminal, else a line every 30 seconds.

    Args:
        items: the work, or its results.
        description: the words beside the bar.
        total: how many items there will be.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield from _logged(items, description, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(items, total=total, description=description)


def _logged(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """Yield items; print how many are done whenever the interval has passed."""
    printed = time.monotonic()
    for n_done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - printed >= SECONDS_BETWEEN_LINES:
            printed = time.monotonic()
            warn(f"{description}: {n_done} of {total}")


def tell(line: str) -> None:
    """Print lines on standard output; control characters in names are escaped."""
    _print_line(line, to_stderr=False)


def warn(line: str) -> None:
    """Print lines on standard error; control characters in names are escaped."""
    _print_line(line, to_stderr=True)


def _print_line(line: str, *, to_stderr: bool) -> None:
    from rich.console import Console

    console = Console(stderr=to_stderr, markup=False, highlight=False, soft_wrap=True)
    for part in line.split("\n"):
        console.print(visible(part))
