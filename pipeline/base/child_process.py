"""Run a function in a child process.

Native decoders run there: one can crash or hang on a damaged file. In a child process this costs the file, not the run.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from pipeline.base import errors
from pipeline.base.errors import DataError, PipeError

# The child searches where its parent searches, so that both import the same package whatever the working directory.
_BOOTSTRAP = (
    "import sys; sys.path[:] = sys.argv[2:]; from pipeline.base.child_process import _serve; _serve(int(sys.argv[1]))"
)
_PR_SET_PDEATHSIG = 1
_OUT_OF_MEMORY = {"out_of_memory": True}


class ChildCrashedError(DataError):
    """A child process died, or was stopped because it took too long."""


class _StoppedError(Exception):
    """No more children are started: the work that wanted them was given up."""


class ChildGroup:
    """The child processes of one piece of parallel work, so that they can be stopped together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._children: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    @contextlib.contextmanager
    def start(self, command: Sequence[str], folder: Path | None) -> Iterator[subprocess.Popen[bytes]]:
        """Start a child of the group; it is killed when the block ends."""
        with self._lock:
            if self._stopped:
                raise _StoppedError
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=folder)
            self._children.add(process)
        try:
            with process:
                try:
                    yield process
                finally:
                    process.kill()
        finally:
            with self._lock:
                self._children.discard(process)

    def stop(self) -> None:
        """Kill every child, and let none start any more."""
        with self._lock:
            self._stopped = True
            children = list(self._children)
        for process in children:
            process.kill()
        for process in children:
            process.wait()


child_group: ContextVar[ChildGroup | None] = ContextVar("child_group", default=None)


def run_in_child(
    function: str,
    arguments: dict[str, Any],
    *,
    subject: str,
    timeout_seconds: float,
    folder: Path | None = None,
    max_bytes: int | None = None,
) -> Any:
    """Call a function in a fresh Python process and give what it returned.

    What the function, or a library under it, prints is not mixed with its result. The child dies with its parent.

    Args:
        function: "module:name", imported by the child.
        arguments: its keyword arguments; they and the result travel as JSON.
        subject: what the work is about, a file as a rule; error messages begin with it.
        timeout_seconds: after which the child is killed.
        folder: where relative paths start; None for the working directory.
        max_bytes: of memory that the child may take (Linux only); None for as much as there is.

    Raises:
        ChildCrashedError: the child was killed by a signal or by the timeout, or had not enough memory.
        PipeError: the function raised one; its message is unchanged.
        RuntimeError: the function raised anything else; the message holds the child's traceback.
    """
    import_path = [str(Path(entry).absolute()) for entry in sys.path]
    command = [sys.executable, "-P", "-c", _BOOTSTRAP, str(os.getpid()), *import_path]
    request = json.dumps({"function": function, "arguments": arguments, "max_bytes": max_bytes}).encode()
    with (child_group.get() or ChildGroup()).start(command, folder) as process:
        try:
            answer, chatter = process.communicate(request, timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise ChildCrashedError(
                f"{subject}: decoding took more than {timeout_seconds:g} s and was stopped; delete or re-copy the file"
            ) from error
    if process.returncode < 0:
        raise ChildCrashedError(
            f"{subject}: decoder crashed (signal {-process.returncode}); delete or re-copy the file"
        )
    if process.returncode > 0:
        raise RuntimeError(f"{function} failed in a child process:\n{chatter.decode(errors='replace')}")
    result = json.loads(answer)
    if result == _OUT_OF_MEMORY:
        most = f"{max_bytes / 1e9:g} GB" if max_bytes else "there is"
        way_out = "make it smaller, or raise extract.decode_max_gigabytes"
        raise ChildCrashedError(f"{subject}: decoding needed more memory than {most} and was stopped; {way_out}")
    return _result(result)


def _result(answer: dict[str, Any]) -> Any:
    if "error" in answer:
        kind: type[PipeError] = getattr(errors, answer["error"])
        raise kind(answer["message"])
    return answer["result"]


def _serve(parent: int) -> None:
    """The child's side: read the request from standard input, answer through what was standard output."""
    _die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the parent decides
    channel = os.dup(1)
    os.dup2(2, 1)  # from here on, what decoders print goes to standard error
    request = json.loads(sys.stdin.buffer.read())
    _limit_memory(request["max_bytes"])
    module, _, name = request["function"].partition(":")
    try:
        answer = {"result": getattr(importlib.import_module(module), name)(**request["arguments"])}
    except MemoryError:
        answer = _OUT_OF_MEMORY
    except PipeError as error:
        kind = next(base.__name__ for base in type(error).__mro__ if base.__module__ == errors.__name__)
        answer = {"error": kind, "message": str(error)}
    with os.fdopen(channel, "wb") as file:
        file.write(json.dumps(answer, allow_nan=False).encode())


def _die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when the thread that started it ends; elsewhere a killed parent leaves it."""
    if sys.platform != "linux":
        return
    import resource

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no core file in the project


def _limit_memory(max_bytes: int | None) -> None:
    """Bound what this process may allocate; other systems than Linux do not count what is mapped."""
    if max_bytes is None or sys.platform != "linux":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (max_bytes if hard < 0 else min(max_bytes, hard), hard))
