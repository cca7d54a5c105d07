"""Functions that tests run in child processes, and what they look at meanwhile."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.base.child_process import run_in_child, serve_no_other_call


def add(left: int, right: int) -> int:
    os.write(1, b"chatter of a decoder")
    sys.stdout.write("more chatter")
    return left + right


def sleep(seconds: float, ready: str = "") -> None:
    if ready:
        Path(ready).write_text(str(os.getpid()), encoding="utf-8")
    time.sleep(seconds)


_kept: list[bytearray] = []  # what calls left behind in this process


def process_id() -> int:
    return os.getpid()


def note_and(act: str, log: str) -> int:
    """Append the process id to a file, do what `act` says, and return the process id."""
    with Path(log).open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    match act:
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "crash if used before" if _kept:
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang":
            time.sleep(600)
        case "leave":
            serve_no_other_call()
        case "flood":
            for _ in range(100):
                os.write(2, b"chatter of a decoder" * 1000)
        case "read":
            assert sys.stdin.read() == ""
    _kept.append(bytearray())
    return os.getpid()


def keep_and_allocate(kept_bytes: int, allocated_bytes: int) -> int:
    """Leave memory behind for good, and take other memory for a moment."""
    bytearray(allocated_bytes)
    _kept.append(bytearray(kept_bytes))
    return os.getpid()


def run(
    function: Callable[..., Any],
    *,
    timeout_seconds: float = 30,
    folder: Path | None = None,
    max_bytes: int | None = None,
    **arguments: Any,
) -> Any:
    """Call a function of a test module in a child process."""
    return run_in_child(
        f"{function.__module__}:{function.__name__}",
        arguments,
        subject="clip.mp4",
        timeout_seconds=timeout_seconds,
        folder=folder,
        max_bytes=max_bytes,
    )


def is_running(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(happened: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.01)
    return happened()
