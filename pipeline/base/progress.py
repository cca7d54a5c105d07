"""Progress of long work: a bar on a terminal, nothing in a log file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from runtime.system.visible_text import visible

Item = TypeVar("Item")


def track(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """Yield `items`, and show a progress bar on standard error where that is a terminal.

    Args:
        items: the work, or its results.
        description: the words beside the bar.
        total: how many items there will be.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield from progress.track(items, total=total, description=description)


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
