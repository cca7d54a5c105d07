"""Progress of long work: a bar on a terminal, nothing in a log file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def track(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """Yield `items` while a bar on standard error shows how many of `total` are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield from progress.track(items, total=total, description=description)


def tell(line: str) -> None:
    """Say a line on standard output."""
    _say(line, to_error=False)


def warn(line: str) -> None:
    """Say a line on standard error."""
    _say(line, to_error=True)


def _say(line: str, *, to_error: bool) -> None:
    from rich.console import Console

    Console(stderr=to_error, markup=False, highlight=False, soft_wrap=True).print(line)
