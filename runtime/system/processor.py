"""The name of this machine's processor."""

from __future__ import annotations

import platform
from pathlib import Path

_KEYS = ("model name", "Model", "Hardware", "cpu")  # x86; boards with ARM; older ones; POWER


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the name that the system gives to its first processor, in one line; where it gives none, its kind."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    values = {key.strip(): " ".join(value.split()) for key, _, value in (line.partition(":") for line in lines)}
    names = [values.get(key, "") for key in _KEYS]
    return next(filter(None, [*names, platform.processor(), platform.machine()]), "unknown")
