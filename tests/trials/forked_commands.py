"""Commands in forked children, which have every library already, and what makes the end of one a fault.

The trials that attack the toolchain run hundreds of commands. Each takes its own time, without seconds of imports.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import re
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.cli import exit_codes, main
from tests.house.rooms import STAGE_NAMES as STAGES

PATIENCE_SECONDS = 10.0  # a command that takes so much longer than undisturbed hangs
MOST_MIB = 600.0  # nor may it take so much memory more than undisturbed
REFUSED, ACCEPTED = "refused", "accepted"
_CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_MODULES = (
    "av", "cv2", "dvclive.live", "matplotlib.pyplot", "onnx", "onnxruntime", "safetensors.torch", "sklearn.metrics",
    "sklearn.neighbors", "torch.utils.tensorboard", "torchvision", "onnxscript", "rich.progress", "runtime.__main__",
    *(f"pipeline.{name}.stage" for name in STAGES if name not in ("export", "parity", "bundle")),
    *(f"export.{name}.stage" for name in ("export", "parity", "bundle")),
)  # fmt: skip


@dataclass(frozen=True)
class End:
    """How a command ended."""

    code: int  # below 0: the signal
    printed: str  # on standard output
    errors: str  # on standard error
    seconds: float
    peak_mib: float

    @property
    def lines(self) -> list[str]:
        """The lines for a person that say why the command failed."""
        return [line for line in self.errors.splitlines() if line.startswith(("pipe: ", "runtime: "))]


@dataclass(frozen=True)
class Usual:
    """What a command takes where nothing is wrong."""

    seconds: float
    peak_mib: float


@dataclass
class Forked:
    """A command that runs in a child, as the leader of its own session."""

    pid: int
    log: Path  # the beginning of the names of its outputs
    started: float = field(default_factory=time.monotonic)

    def has_ended(self) -> bool:
        """Whether the child has ended; `wait` still has to be called."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait(self, most_seconds: float) -> End:
        """Wait for the end; kill the child and all that it started where it takes longer."""
        deadline = self.started + most_seconds
        while not (ended := os.wait4(self.pid, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                self.send(signal.SIGALRM, everybody=True)
                self.send(signal.SIGKILL, everybody=True)
                ended = os.wait4(self.pid, 0)
                return self._end(-signal.SIGALRM, ended[2].ru_maxrss)
            time.sleep(0.002)
        return self._end(os.waitstatus_to_exitcode(ended[1]), ended[2].ru_maxrss)

    def send(self, signal_number: int, *, everybody: bool = False) -> None:
        """Send a signal to the child, or as a terminal's Ctrl-C does to everybody of its group."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if everybody else os.kill)(self.pid, signal_number)

    def left_running(self) -> list[int]:
        """The processes of the session that still run, without the child."""
        return [pid for pid in _session(self.pid) if pid != self.pid]

    def _end(self, code: int, peak_kib: int) -> End:
        texts = [Path(f"{self.log}.{name}").read_bytes().decode("utf-8", "replace") for name in ("out", "err")]
        return End(code, *texts, time.monotonic() - self.started, peak_kib / 1024)


def warm_up() -> None:
    """Import what commands import. No work is done, since a child inherits no threads."""
    for name in _MODULES:
        importlib.import_module(name)


def start(arguments: Sequence[str], folder: Path, scratch: Path, before: Callable[[], None] = lambda: None) -> Forked:
    """Start `pipe` with some arguments, or with `runtime` as the first one the device's command.

    Args:
        arguments: of the command.
        folder: the working folder.
        scratch: holds the outputs, and the folder of temporaries.
        before: called in the child before the command.
    """
    (scratch / "tmp").mkdir(parents=True, exist_ok=True)
    for name in ("out", "err"):
        Path(f"{scratch / 'log'}.{name}").write_bytes(b"")
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    pid = os.fork()
    if pid:
        return Forked(pid, scratch / "log")
    code = 70
    try:
        code = _run(arguments, folder, scratch, before)
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def run(
    arguments: Sequence[str],
    folder: Path,
    scratch: Path,
    before: Callable[[], None] = lambda: None,
    most_seconds: float = 600,
) -> End:
    """Run a command to its end.

    Args:
        arguments: as `start` takes them.
        folder: the working folder.
        scratch: as `start` takes it.
        before: called in the child before the command.
        most_seconds: a longer run is stopped.
    """
    return start(arguments, folder, scratch, before).wait(most_seconds)


def fault_of(end: End, usual: Usual, names: Iterable[str]) -> str:
    """Say what is wrong with the end of a command; empty where it succeeded, or refused in one line.

    Args:
        end: of the command.
        usual: what it takes undisturbed.
        names: of files; the line of a refusal has to hold one of them.
    """
    line, names = end.lines[-1] if end.lines else "", list(names)
    control = _CONTROLS.search(end.errors + end.printed)
    faults = {
        "hang": end.code == -signal.SIGALRM,
        f"ended by signal {-end.code}": end.code < 0,
        f"exit code {end.code}": end.code not in (0, 1, 3),
        f"printed the control character {control and control[0]!a}": control is not None,
        "a traceback": "Traceback (most recent" in end.errors,
        f"took {end.peak_mib:.0f} MiB": end.peak_mib > usual.peak_mib + MOST_MIB,
        f"{len(end.lines)} lines": end.code != 0 and len(end.lines) != 1,
        "a line without the file's name": end.code == 1 and not any(name in line for name in names or ("",)),
    }
    return next((fault for fault, is_so in faults.items() if is_so), "")


def standing_clock() -> None:
    """Let the clock go a minute at each look, so that no time that a stage measures differs between two runs."""
    minutes = itertools.count()
    time.perf_counter = lambda: 60.0 * next(minutes)


def limited_memory(n_bytes: int) -> Callable[[], None]:
    """Return a function that limits the address space, so that a claim of terabytes fails at once."""
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))


def table(first_column: str, outcomes: Iterable[tuple[str, str]]) -> str:
    """Count outcomes in Markdown.

    Args:
        first_column: its name.
        outcomes: pairs of a kind and a verdict: refused, accepted, or the fault.
    """
    counts = Counter(outcomes)
    kinds = list(dict.fromkeys(kind for kind, _ in counts))
    lines = [f"| {first_column} | runs | refused | accepted | bad |", "|---|---|---|---|---|"]
    for kind in (*kinds, "all"):
        own = Counter[str]()
        for (other, verdict), n_runs in counts.items():
            if kind in (other, "all"):
                own[verdict if verdict in (REFUSED, ACCEPTED) else "bad"] += n_runs
        lines.append(f"| {kind} | {own.total()} | {own[REFUSED]} | {own[ACCEPTED]} | {own['bad']} |")
    return "\n".join(lines)


def _run(arguments: Sequence[str], folder: Path, scratch: Path, before: Callable[[], None]) -> int:
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the command has its own handler
    os.chdir(folder)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{scratch / 'log'}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ["TMPDIR"] = tempfile.tempdir = str(scratch / "tmp")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    before()
    try:
        if arguments[0] == "runtime":
            from runtime.__main__ import main as on_device

            signal.signal(signal.SIGINT, signal.default_int_handler)
            return on_device(list(arguments[1:]))
        exit_codes.interrupt_outside_imports()
        exit_codes.leave(main.run(list(arguments)))
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except BaseException:  # noqa: BLE001  # what Python itself would print
        import traceback

        traceback.print_exc()
        return 70


def _session(leader: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append(int(path.parent.name))
    return found
