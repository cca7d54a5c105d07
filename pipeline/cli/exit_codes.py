"""Where an error becomes one line and an exit code, and where Ctrl-C is handled."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from pipeline.base.errors import DiskFullError, PipeError
from pipeline.base.project import OWN_PACKAGES, missing, stage_that_writes
from pipeline.cli.context import visible_line

EXIT_OWN_BUG = 70
EXIT_INTERRUPTED = 130

# Ctrl-C, and the alarm that repeats it once an import is over. Windows has no alarm.
_INTERRUPT_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGALRM") if hasattr(signal, name)]


def run(command: click.Command, arguments: Sequence[str]) -> int:
    """Run a command; an error becomes one line on standard error.

    Returns:
        The exit code.
    """
    code: object = 0
    _escape_what_stdout_cannot_encode()
    try:
        code = command.main(list(arguments), prog_name="pipe", standalone_mode=False)
        _flush_stdout()
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = _print_error("interrupted; the same command starts again cleanly", EXIT_INTERRUPTED)
    except _errors_with_an_exit_code() as error:
        code = _print_error(_with_disk_space(str(error), error, arguments), getattr(error, "exit_code", 1))
    except ModuleNotFoundError as error:
        code = _report_missing_module(error, arguments)
    except BrokenPipeError:
        # Python flushes standard output once more at exit, into the same closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _print_error("standard output was closed before everything was written", 1)
    except OSError as error:
        code = _print_error(_with_disk_space(_describe_os_error(error), error, arguments), 1)
    except Exception as error:  # noqa: BLE001  # the one broad handler: any other error is our own bug
        code = _report_own_bug(error, arguments)
    return code if isinstance(code, int) else 0


def _escape_what_stdout_cannot_encode() -> None:
    """Let standard output print an escape for a letter that its encoding lacks, such as one of a class or file name."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _flush_stdout() -> None:
    if sys.stdout is not None:  # None where the calling program closed it: then only the exit code matters
        sys.stdout.flush()


def _errors_with_an_exit_code() -> tuple[type[Exception], ...]:
    """The errors that a person can fix: those of `pipeline` and those of `runtime`."""
    try:
        from runtime.errors import DeviceError
    except ImportError:  # a foreign package hides our `runtime`; `pipe doctor` must still run and name it
        return (PipeError,)
    return (PipeError, DeviceError)


def _print_error(message: str, code: int) -> int:
    line = " ".join(message.split("\n"))
    click.echo(visible_line(f"pipe: {line}"), err=True)
    return code


def _with_disk_space(line: str, error: BaseException, arguments: Sequence[str]) -> str:
    """Where a disk was full, name the command and the space that is left, unless the line has it already."""
    from pipeline.base.storage.disk_space import free_bytes, is_full

    if not is_full(error):
        return line
    command = next((argument for argument in arguments if not argument.startswith("-")), "pipe")
    if isinstance(error, DiskFullError):
        return f"{command}: {line}"
    places = {str(place): free_bytes(place) for place in (Path.cwd(), Path(tempfile.gettempdir()))}
    free = ", ".join(f"{place}: {n_bytes:,} bytes" for place, n_bytes in places.items())
    return f"{command}: {line}; a disk is full; free are {free}; make room"


def _describe_os_error(error: OSError) -> str:
    """One line for an error of the system that no stage foresaw."""
    name = str(error.filename or "system")
    if isinstance(error, FileNotFoundError) and stage_that_writes(Path(name)):
        return str(missing(Path(name)))
    if error.errno == errno.ENAMETOOLONG:
        return f"{name}: {error.strerror}; rename it, or move the project to a shorter path"
    return f"{name}: {error.strerror or error}"


def _report_missing_module(error: ModuleNotFoundError, arguments: Sequence[str]) -> int:
    package = (error.name or "").split(".")[0]
    if package in OWN_PACKAGES:
        hint = f"; `pipe doctor` says whether a foreign package hides {package}"
        return _report_own_bug(error, arguments, hint=hint)
    return _print_error(f"{error.name}: not installed; this command needs `make install`, or the extra `train`", 1)


def _report_own_bug(error: Exception, arguments: Sequence[str], *, hint: str = "") -> int:
    import traceback

    from pipeline.base.storage.disk_space import is_full

    text = "".join(traceback.format_exception(error))
    if "--debug" in arguments:
        click.echo(text, err=True)
    if is_full(error):  # a library turned the operating system's error into one of its own
        return _print_error(_with_disk_space(f"{type(error).__name__}: {error}", error, arguments), 1)
    with tempfile.NamedTemporaryFile("w", prefix="pipe-", suffix=".log", delete=False, encoding="utf-8") as log:
        log.write(text)
    message = f"internal error ({type(error).__name__}: {error}){hint}; the traceback is in {log.name}"
    return _print_error(message, EXIT_OWN_BUG)


def leave(code: int) -> NoReturn:
    """End the process with an exit code, even while abandoned threads still run inside a native library.

    Python's own exit would unload that library under them, and the process would abort. After an interrupt inside
    generated code, Python's exit would end in a signal and not in the exit code.
    """
    for interrupt_signal in _INTERRUPT_SIGNALS:
        signal.signal(interrupt_signal, signal.SIG_IGN)  # the work is over: a late Ctrl-C changes nothing
    if code == EXIT_INTERRUPTED or (code and threading.active_count() > 1):
        _flush_stdout()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def interrupt_outside_imports() -> None:
    """Raise KeyboardInterrupt on Ctrl-C, but not during an import: some libraries swallow it there, others break."""
    if hasattr(signal, "setitimer"):  # not on Windows
        for interrupt_signal in _INTERRUPT_SIGNALS:
            signal.signal(interrupt_signal, _raise_or_repeat)


def _raise_or_repeat(_: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            signal.setitimer(signal.ITIMER_REAL, 0.05)  # during an import: try again in a moment
            return
        frame = frame.f_back
    raise KeyboardInterrupt
