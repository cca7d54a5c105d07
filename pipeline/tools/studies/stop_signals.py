"""The signals that end a study, as interrupts of its main thread."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import NoReturn

# Sent by `kill`, by a machine that shuts down, and by a terminal that is closed (Windows has no SIGHUP).
_TERMINATION_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
# By an alarm the command line repeats a Ctrl-C that came during an import (Windows has none).
_REPEATED = getattr(signal, "SIGALRM", None)
_REPEATABLE = [_REPEATED] if _REPEATED is not None else []


@contextlib.contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt on the signals that end a process."""
    with _handled(_TERMINATION_SIGNALS, _interrupt):
        yield


@contextlib.contextmanager
def interrupted_once(end: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Raise KeyboardInterrupt on the first of these signals, or Ctrl-C, and disregard those that follow.

    A person who presses Ctrl-C twice does not cut short what the block does to end. The first signal is raised as
    before the block, so that no import is cut short. Where a library swallows it, it is raised when the block ends.

    Args:
        end: is called before the interrupt, in the handler of the signal: it must not use a buffer.

    Yields:
        A function for the block to call before it cleans up. From then on a first signal too waits for the end.
    """
    signals_so_far, is_held = list[int](), False
    raise_as_before = signal.getsignal(signal.SIGINT)

    def hold() -> None:
        nonlocal is_held
        is_held = True

    def interrupt(number: int, frame: FrameType | None) -> None:
        is_first = not signals_so_far
        signals_so_far.append(number)
        if is_first:
            end()
        if is_held or not (is_first or number == _REPEATED):
            return
        if callable(raise_as_before):
            raise_as_before(number, frame)
        else:
            raise KeyboardInterrupt

    with _handled([signal.SIGINT, *_REPEATABLE, *_TERMINATION_SIGNALS], interrupt):
        try:
            yield hold
        finally:
            if signals_so_far and not isinstance(sys.exception(), KeyboardInterrupt):
                raise KeyboardInterrupt


@contextlib.contextmanager
def _handled(numbers: Sequence[int], handle: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Handle signals in the block. Those that are ignored stay so, as under nohup."""
    if threading.current_thread() is not threading.main_thread():  # Python handles signals in the main thread only
        yield
        return
    handlers = {number: signal.getsignal(number) for number in numbers}
    for number, handler in handlers.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _interrupt(_: int, __: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
