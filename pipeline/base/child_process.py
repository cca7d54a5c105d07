"""Run functions in child processes.

A damaged file can crash a native decoder or stop it forever. In a child process this costs the file, not the run.
A start costs a quarter of a second of one processor, so a child runs one function after the other.
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
from collections import deque
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pipeline.base import errors
from pipeline.base.errors import DataError, PipeError

# Libraries may leak memory and open files. After 100 calls a new child costs 3 ms a call, less than it costs to notice.
MOST_CALLS = 100
# Memory that a child may keep after a call. Decoders of 60 clips kept 50 to 200 MB, and not more from call to call.
MOST_KEPT_BYTES = 500_000_000
_ERROR_BYTES = 65_536  # the end of a child's standard error, which holds its traceback
# The child gets its parent's import path, so that both import the same package in any working directory.
_BOOTSTRAP = (
    "import sys; sys.path[:] = sys.argv[2:]; from pipeline.base.child_process import _serve; _serve(int(sys.argv[1]))"
)
_PR_SET_PDEATHSIG = 1
_OUT_OF_MEMORY = "out_of_memory"


class ChildCrashedError(DataError):
    """A child process crashed, took too long, or needed too much memory."""


class _TimedOutError(ChildCrashedError):
    """A child process took too long."""


class _StoppedError(Exception):
    """The group was stopped, so it starts no child any more."""


@dataclass(frozen=True)
class _Call:
    """One call of a function in a child."""

    function: str  # module:name
    arguments: dict[str, Any]
    subject: str  # the file that the work is about
    timeout_seconds: float
    max_bytes: int | None

    def request(self) -> bytes:
        """The call as the child reads it: one line of JSON."""
        fields = {"function": self.function, "arguments": self.arguments, "max_bytes": self.max_bytes}
        return json.dumps(fields).encode() + b"\n"


class _Child:
    """A child process, which answers one call after the other."""

    def __init__(self, folder: Path | None) -> None:
        import_path = [str(Path(entry).absolute()) for entry in sys.path]
        command = [sys.executable, "-P", "-c", _BOOTSTRAP, str(os.getpid()), *import_path]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=folder)
        self._error_blocks: deque[bytes] = deque(maxlen=_ERROR_BYTES // 4096)
        self._error_reader = threading.Thread(target=self._read_errors, daemon=True)
        self._error_reader.start()

    def answer(self, call: _Call) -> dict[str, Any]:
        """Send a call and wait for its answer.

        Raises:
            ChildCrashedError: a signal or the timeout killed the child.
            RuntimeError: the child failed; the message holds its traceback.
        """
        timed_out = threading.Event()

        def end_for_time() -> None:
            timed_out.set()
            self._process.kill()

        timer = threading.Timer(call.timeout_seconds, end_for_time)
        timer.daemon = True
        timer.start()
        try:
            line = self._exchange(call.request())
            if not line.endswith(b"\n"):
                self._process.wait()
        finally:
            timer.cancel()
        if not line.endswith(b"\n"):
            raise self._error_of(call, timed_out=timed_out.is_set())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """Kill the process, and close its pipes."""
        self._process.kill()
        self._process.wait()
        self._error_reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # of a request that the dead child never read
                    pipe.close()

    def _exchange(self, request: bytes) -> bytes:
        """The child's line, or a part of it where the child died."""
        stdin, stdout = _open_pipe(self._process.stdin), _open_pipe(self._process.stdout)
        try:
            stdin.write(request)
            stdin.flush()
        except BrokenPipeError:
            return b""
        return stdout.readline()

    def _error_of(self, call: _Call, *, timed_out: bool) -> Exception:
        code = self._process.returncode
        if timed_out:
            taken = f"decoding took more than {call.timeout_seconds:g} s and was stopped"
            advice = "raise extract.decode_timeout_seconds, or re-copy the file if it is damaged"
            return _TimedOutError(f"{call.subject}: {taken}; {advice}")
        if code < 0:
            return ChildCrashedError(f"{call.subject}: decoder crashed (signal {-code}); delete or re-copy the file")
        self._error_reader.join()
        text = b"".join(self._error_blocks).decode(errors="replace")
        return RuntimeError(f"{call.function} failed in a child process:\n{text}")

    def _read_errors(self) -> None:
        """Read standard error all the time, since a decoder that fills the pipe would wait forever."""
        descriptor = _open_pipe(self._process.stderr).fileno()
        while block := os.read(descriptor, 4096):
            self._error_blocks.append(block)


def _open_pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ValueError("the child was started without pipes")
    return pipe


_Place = tuple[int, Path | None, int | None]  # the thread, folder and memory limit of a child


class ChildGroup:
    """The child processes of one piece of parallel work. Each thread keeps a child for its next call.

    A child belongs to the thread that started it, since it dies with that thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._children: set[_Child] = set()
        self._idle: dict[_Place, _Child] = {}
        self._stopped = False

    def __enter__(self) -> ChildGroup:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self, call: _Call, folder: Path | None) -> Any:
        """Run a call in this thread's idle child, or in a fresh one.

        A crash in a child that has served before proves nothing, since an earlier call may have harmed the child. The
        call is repeated in a fresh child, so that its result never depends on what was called before.
        """
        idle_key = threading.get_ident(), folder, call.max_bytes
        with self._lock:
            used = self._idle.pop(idle_key, None)
        if used is not None:
            try:
                return self._run_in(used, call, idle_key)
            except _TimedOutError:
                raise
            except ChildCrashedError:
                pass
        return self._run_in(self._start(folder), call, idle_key)

    def stop(self) -> None:
        """Kill every child, and start none any more."""
        with self._lock:
            self._stopped = True
            children = list(self._children)
        for child in children:
            self._end(child)

    def _run_in(self, child: _Child, call: _Call, idle_key: _Place) -> Any:
        serves_on = False
        try:
            answer = child.answer(call)
            serves_on = answer["serves_on"]
        finally:
            if not serves_on:
                self._end(child)
        with self._lock:
            if serves_on and not self._stopped:
                self._idle[idle_key] = child
        return _result(answer, call)

    def _start(self, folder: Path | None) -> _Child:
        with self._lock:
            if self._stopped:
                raise _StoppedError
            child = _Child(folder)
            self._children.add(child)
        return child

    def _end(self, child: _Child) -> None:
        child.end()
        with self._lock:
            self._children.discard(child)


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
    """Call a function in another Python process and return its result.

    Below `parallel.each` the process serves later calls of the same thread too, until a call crashes it or fails, or
    it has served `MOST_CALLS`, or keeps more than `MOST_KEPT_BYTES` of memory. Elsewhere it serves this call alone.

    The function, or a library below it, may print: that does not mix with the result. The child dies with its parent.

    Args:
        function: "module:name", which the child imports.
        arguments: the function's keyword arguments. They and the result travel as JSON.
        subject: the file that the work is about; error messages begin with it.
        timeout_seconds: after this time the child is killed.
        folder: the child's working directory; None for that of the parent.
        max_bytes: the memory that this call may allocate (Linux only); None for no limit.

    Raises:
        ChildCrashedError: a signal or the timeout killed the child, or it ran out of memory.
        PipeError: the function raised one; its message is unchanged.
        RuntimeError: the function raised another error; the message holds the child's traceback.
    """
    call = _Call(function, arguments, subject, timeout_seconds, max_bytes)
    group = child_group.get()
    if group is not None:
        return group.run(call, folder)
    with ChildGroup() as alone:
        return alone.run(call, folder)


def _result(answer: dict[str, Any], call: _Call) -> Any:
    if "result" in answer:
        return answer["result"]
    if answer["error"] == _OUT_OF_MEMORY:
        limit = f"{call.max_bytes / 1e9:g} GB" if call.max_bytes else "there is"
        advice = "make it smaller, or raise extract.decode_max_gigabytes"
        raise ChildCrashedError(f"{call.subject}: decoding needed more memory than {limit} and was stopped; {advice}")
    error_type: type[PipeError] = getattr(errors, answer["error"])
    raise error_type(answer["message"])


# In the child.


class _Server:
    """Answers calls in the child."""

    def __init__(self) -> None:
        self._n_calls = 0
        self._base_bytes = 0  # memory before the first call
        self._kept_bytes = 0  # memory that earlier calls left allocated

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Call the function; give its result or its error, and whether this child may serve another call."""
        module, _, name = request["function"].partition(":")
        if not self._n_calls:
            # The limit of the first call counts what the import takes, that of later ones does not forgive it.
            _limit_memory(request["max_bytes"])
        try:
            function = getattr(importlib.import_module(module), name)
            if self._n_calls:
                _limit_memory(request["max_bytes"] and request["max_bytes"] + self._kept_bytes)
            else:
                self._base_bytes = _data_bytes()
            answer = {"result": function(**request["arguments"])}
        except MemoryError:
            answer = {"error": _OUT_OF_MEMORY}
        except PipeError as error:
            # The parent may not know the error's own type, so send the nearest one of `errors`.
            known = next(base.__name__ for base in type(error).__mro__ if base.__module__ == errors.__name__)
            answer = {"error": known, "message": str(error)}
        self._n_calls += 1
        self._kept_bytes = max(0, _data_bytes() - self._base_bytes)
        return answer | {"serves_on": "result" in answer and not _leaving.is_set() and self._is_within_bounds()}

    def _is_within_bounds(self) -> bool:
        return self._n_calls < MOST_CALLS and self._kept_bytes <= MOST_KEPT_BYTES


_leaving = threading.Event()


def serve_no_other_call() -> None:
    """In a child: let this call be its last, since it met damage that may have harmed a library's memory."""
    _leaving.set()


def _serve(parent: int) -> None:
    """In the child: read requests from standard input, and write answers to the original standard output."""
    _die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; the parent decides
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)  # a library that reads standard input must not take the next request
    os.dup2(2, 1)  # from here on, the output of decoders goes to standard error
    server = _Server()
    for line in requests:
        answer = server.answer(json.loads(line))
        answers.write(json.dumps(answer, allow_nan=False).encode() + b"\n")
        answers.flush()


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


def _data_bytes() -> int:
    """The memory of this process as the limit counts it; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    kilobytes = next((line.split()[1] for line in lines if line.startswith("VmData:")), "0")
    return int(kilobytes) * 1024
