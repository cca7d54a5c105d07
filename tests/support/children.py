"""Functions that tests run in child processes, and what they look at meanwhile."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.base.child_process import run_in_child


def add(left: int, right: int) -> int:
    os.write(1, b"chatter of a decoder")
    sys.stdout.write("more chatter")
    return left + right


def sleep(seconds: float, ready: str = "") -> None:
    if ready:
        Path(ready).write_text(str(os.getpid()), encoding="utf-8")
    time.sleep(seconds)


def run(
    function: Callable[..., Any], *, timeout_seconds: float = 30, folder: Path | None = None, **arguments: Any
) -> Any:
    """Call a function of a test module in a child process."""
    return run_in_child(
        f"{function.__module__}:{function.__name__}",
        arguments,
        subject="clip.mp4",
        timeout_seconds=timeout_seconds,
        folder=folder,
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
