"""A decoder that crashes, to run in the child processes of `extract` instead of the real one."""

from __future__ import annotations

import os
import signal
from typing import Any

from pipeline.extract.child import decode_recordings

CRASHING_CHILD = f"{__name__}:decode_then_crash"


def decode_then_crash(sources: list[tuple[str, str]], **others: Any) -> object:
    """Write all pictures, then crash if the name of a recording has "whole" in it."""
    outcomes = decode_recordings(sources, **others)
    if any("whole" in name for _, name in sources):
        os.kill(os.getpid(), signal.SIGSEGV)
    return outcomes
