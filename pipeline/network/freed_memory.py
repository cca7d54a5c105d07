"""Freed memory stays with the process: the next batch then needs no new pages from the system."""

from __future__ import annotations

import ctypes
import sys

# Of glibc's malloc.h; Python's standard library has no names for them.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEPT_BYTES = 1 << 30  # the feature maps of most networks are smaller


def keep_freed_memory() -> None:
    """Let glibc keep up to 1 GiB that was freed, instead of giving it back to the system.

    By default each feature map of more than 32 MB comes from the system and goes back to it, in every layer of every
    batch. The system fills its pages with zeros each time, which takes a seventh to a sixth of a training on a
    processor (`benchmarks/freed_memory.py`). Other C libraries have no such setting, and nothing changes there.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
