"""Name the cause where somebody unpacks a bundle over the one that runs here: its code changes under the process.

Then any import and any call may fail in any way. So the one place that sees every failure looks whether the code has
changed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType

_SUMS = "SHA256SUMS"

_State = dict[str, tuple[int, int, int]]  # of each file: its size, and the times of its last changes


def watch(code: Path) -> None:
    """From now on, end with one line instead of a traceback where the code here changes while it runs.

    Args:
        code: the folder `runtime` of a bundle.
    """
    before, former_hook = _state(code), sys.excepthook

    def report(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if issubclass(kind, Exception) and (_state(code) != before or not _is_as_listed(code)):
            line = f"{code} has changed while it ran, or is being unpacked; expected a folder that nothing writes into"
            sys.stderr.write(f"runtime: {line}; unpack the bundle into a new folder and start again\n")
        else:
            former_hook(kind, error, traceback)

    sys.excepthook = report


def _state(code: Path) -> _State:
    state: _State = {}
    for parent, _, names in os.walk(code):
        for name in names:
            if name.endswith(".py"):
                path = os.path.join(parent, name)  # noqa: PTH118  # at every start: as quick as it can be
                try:
                    status = os.stat(path)  # noqa: PTH116
                except OSError:  # it is being replaced
                    state[path] = (-1, -1, -1)
                else:
                    state[path] = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return state


def _is_as_listed(code: Path) -> bool:
    """Whether the code is that of the bundle's list; a clone has no list. The list is unpacked before the code."""
    import hashlib

    try:
        lines = (code.parent / _SUMS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    for line in lines:
        sha256, _, name = line.partition("  ")
        if name.startswith(f"{code.name}/"):
            try:
                content = (code.parent / name).read_bytes()
            except OSError:
                return False
            if hashlib.sha256(content).hexdigest() != sha256:
                return False
    return True
