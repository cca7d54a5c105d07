"""The one door: where errors become a line and an exit code, and where Ctrl-C comes in."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import click

from pipeline.base.errors import PipeError

EXIT_OWN_BUG = 70
EXIT_INTERRUPTED = 130

# Ctrl-C, and the alarm that asks again once an import is over; Windows has no alarm.
_INTERRUPTS = [getattr(signal, name) for name in ("SIGINT", "SIGALRM") if hasattr(signal, name)]


def run(command: click.Command, arguments: Sequence[str]) -> int:
    """Run a command; every error becomes one line on standard error and an exit code."""
    from runtime.errors import DeviceError

    code: object = 0
    _let_every_letter_out()
    try:
        code = command.main(list(arguments), prog_name="pipe", standalone_mode=False)
        _flush_output()
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = _say("interrupted; the same command starts again cleanly", EXIT_INTERRUPTED)
    except (PipeError, DeviceError) as error:
        code = _say(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("pipeline", "export", "runtime"):
            code = _own_bug(error, show="--debug" in arguments)
        else:
            code = _say(f"{error.name}: not installed; this command needs `make install`, or the extra `train`", 1)
    except BrokenPipeError:
        # Python flushes standard output once more at exit, into the same closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _say("standard output was closed before everything was written", 1)
    except OSError as error:
        code = _say(f"{error.filename or 'system'}: {error.strerror or error}", 1)
    except Exception as error:  # noqa: BLE001  # the one broad handler: whatever arrives here is our own bug
        code = _own_bug(error, show="--debug" in arguments)
    return code if isinstance(code, int) else 0


def _let_every_letter_out() -> None:
    """Print as escapes what the output's encoding lacks: a class's letters, or the broken name of a file."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _flush_output() -> None:
    if sys.stdout is not None:  # closed by whoever started us: the exit code is all they want
        sys.stdout.flush()


def _say(message: str, code: int) -> int:
    line = " ".join(message.split("\n"))
    click.echo(f"pipe: {line}", err=True)
    return code


def _own_bug(error: Exception, *, show: bool) -> int:
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    if show:
        click.echo(text, err=True)
    with tempfile.NamedTemporaryFile("w", prefix="pipe-", suffix=".log", delete=False, encoding="utf-8") as log:
        log.write(text)
    return _say(f"internal error ({type(error).__name__}: {error}); the traceback is in {log.name}", EXIT_OWN_BUG)


def leave(code: int) -> NoReturn:
    """End the process with an exit code, also while threads that were given up are still inside a native library.

    Python's own exit would tear that library down under them, and the process would abort; and where an interrupt has
    passed through generated code it would end in a signal and not in its exit code.
    """
    for late in _INTERRUPTS:
        signal.signal(late, signal.SIG_IGN)  # the work is over: they change nothing
    if code == EXIT_INTERRUPTED or (code and threading.active_count() > 1):
        _flush_output()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def interrupt_outside_imports() -> None:
    """Raise KeyboardInterrupt on Ctrl-C, but not inside an import: some libraries swallow it there and others break."""
    if hasattr(signal, "setitimer"):  # not on Windows
        for number in _INTERRUPTS:
            signal.signal(number, _interrupt)


def _interrupt(_: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            signal.setitimer(signal.ITIMER_REAL, 0.05)  # ask again soon
            return
        frame = frame.f_back
    raise KeyboardInterrupt
