"""The signals that end a study, as interrupts of its main thread."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import NoReturn

# Sent by `kill`, by a machine that shuts down, and by a terminal that is closed (Windows has no SIGHUP).
_TERMINATION_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextlib.contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt on the signals that end a process."""
    with _handled(_TERMINATION_SIGNALS, _interrupt):
        yield


@contextlib.contextmanager
def interrupted_once(end: Callable[[], None]) -> Iterator[None]:
    """Raise KeyboardInterrupt on the first of these signals, or Ctrl-C, and disregard those that follow.

    A person who presses Ctrl-C twice does not cut short what the block does to end.

    Args:
        end: is called before the interrupt, in the handler of the signal: it must not use a buffer.
    """
    signals_so_far = list[int]()

    def interrupt(number: int, _: FrameType | None) -> None:
        signals_so_far.append(number)
        if len(signals_so_far) == 1:
            end()
            raise KeyboardInterrupt

    with _handled([signal.SIGINT, *_TERMINATION_SIGNALS], interrupt):
        yield


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
