"""Run a function in a child process.

A damaged file can crash a native decoder or stop it forever. In a child process this costs the file, not the run.
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

# The child gets its parent's import path, so that both import the same package in any working directory.
_BOOTSTRAP = (
    "import sys; sys.path[:] = sys.argv[2:]; from pipeline.base.child_process import _serve; _serve(int(sys.argv[1]))"
)
_PR_SET_PDEATHSIG = 1
_OUT_OF_MEMORY = {"out_of_memory": True}


class ChildCrashedError(DataError):
    """A child process crashed, took too long, or needed too much memory."""


class _StoppedError(Exception):
    """The group was stopped, so it starts no child any more."""


class ChildGroup:
    """The child processes of one piece of parallel work, so that they can be stopped together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._children: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    @contextlib.contextmanager
    def start(self, command: Sequence[str], folder: Path | None) -> Iterator[subprocess.Popen[bytes]]:
        """Start a child of the group in `folder`, and kill it when the block ends."""
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
        """Kill every child, and start none any more."""
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
    """Call a function in a fresh Python process and return its result.

    The function, or a library below it, may print: that does not mix with the result. The child dies with its parent.

    Args:
        function: "module:name", which the child imports.
        arguments: the function's keyword arguments. They and the result travel as JSON.
        subject: the file that the work is about; error messages begin with it.
        timeout_seconds: after this time the child is killed.
        folder: the child's working directory; None for that of the parent.
        max_bytes: the memory that the child may allocate (Linux only); None for no limit.

    Raises:
        ChildCrashedError: a signal or the timeout killed the child, or it ran out of memory.
        PipeError: the function raised one; its message is unchanged.
        RuntimeError: the function raised another error; the message holds the child's traceback.
    """
    import_path = [str(Path(entry).absolute()) for entry in sys.path]
    command = [sys.executable, "-P", "-c", _BOOTSTRAP, str(os.getpid()), *import_path]
    request = json.dumps({"function": function, "arguments": arguments, "max_bytes": max_bytes}).encode()
    with (child_group.get() or ChildGroup()).start(command, folder) as process:
        try:
            answer, standard_error = process.communicate(request, timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise ChildCrashedError(
                f"{subject}: decoding took more than {timeout_seconds:g} s and was stopped; delete or re-copy the file"
            ) from error
    if process.returncode < 0:
        raise ChildCrashedError(
            f"{subject}: decoder crashed (signal {-process.returncode}); delete or re-copy the file"
        )
    if process.returncode > 0:
        raise RuntimeError(f"{function} failed in a child process:\n{standard_error.decode(errors='replace')}")
    result = json.loads(answer)
    if result == _OUT_OF_MEMORY:
        limit = f"{max_bytes / 1e9:g} GB" if max_bytes else "there is"
        advice = "make it smaller, or raise extract.decode_max_gigabytes"
        raise ChildCrashedError(f"{subject}: decoding needed more memory than {limit} and was stopped; {advice}")
    return _result(result)


def _result(answer: dict[str, Any]) -> Any:
    if "error" in answer:
        error_type: type[PipeError] = getattr(errors, answer["error"])
        raise error_type(answer["message"])
    return answer["result"]


def _serve(parent: int) -> None:
    """In the child: read the request from standard input and write the answer to the original standard output."""
    _die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; the parent decides
    original_stdout = os.dup(1)
    os.dup2(2, 1)  # from here on, the output of decoders goes to standard error
    request = json.loads(sys.stdin.buffer.read())
    _limit_memory(request["max_bytes"])
    module, _, name = request["function"].partition(":")
    try:
        answer = {"result": getattr(importlib.import_module(module), name)(**request["arguments"])}
    except MemoryError:
        answer = _OUT_OF_MEMORY
    except PipeError as error:
        # The parent may not know the error's own type, so send the nearest one of `errors`.
        name = next(base.__name__ for base in type(error).__mro__ if base.__module__ == errors.__name__)
        answer = {"error": name, "message": str(error)}
    with os.fdopen(original_stdout, "wb") as file:
        file.write(json.dumps(answer, allow_nan=False).encode())


def _die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when the thread that started it ends. Elsewhere it outlives a killed parent."""
    if sys.platform != "linux":
        return
    import resource

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before prctl took effect
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no core file in the project


def _limit_memory(max_bytes: int | None) -> None:
    """Limit the memory of this process. Only Linux counts mapped memory."""
    if max_bytes is None or sys.platform != "linux":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (max_bytes if hard < 0 else min(max_bytes, hard), hard))
