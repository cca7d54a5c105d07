"""Ctrl-C, at a moment when it can be borne."""

from __future__ import annotations

import signal
from types import FrameType


def interrupt_outside_imports() -> None:
    """Raise KeyboardInterrupt on Ctrl-C, but not inside an import: some libraries swallow it there and others break."""
    if hasattr(signal, "setitimer"):  # not on Windows
        signal.signal(signal.SIGINT, _interrupt)
        signal.signal(signal.SIGALRM, _interrupt)


def _interrupt(_: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            signal.setitimer(signal.ITIMER_REAL, 0.05)  # ask again soon
            return
        frame = frame.f_back
    raise KeyboardInterrupt
