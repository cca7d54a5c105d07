"""Borrow `params.yaml` for the runs of a study, and restore it afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pipeline.base.files import exclusive_lock, read_json, replacing_file, write_json
from pipeline.base.progress import warn
from pipeline.base.project import Project

# Sent by `kill`, by a machine that shuts down, and by a terminal that is closed (Windows has no SIGHUP).
_TERMINATION_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextlib.contextmanager
def exclusive_params(project: Project) -> Iterator[None]:
    """Keep other studies from borrowing `params.yaml`. First restore what a killed study left in the file.

    Raises:
        DataError: another study is running in this project.
    """
    with exclusive_lock(project, "pipe study"):
        _restore_after_kill(project)
        yield


@contextlib.contextmanager
def borrowed_params(project: Project, texts: Sequence[str]) -> Iterator[None]:
    """Restore `params.yaml` when the block ends, whatever happens in the block.

    SIGTERM and a closed terminal end the block as Ctrl-C does. After SIGKILL the next `exclusive_params` restores
    the file; `texts` are all contents that the block may write, so that it can recognise them.
    """
    own = project.params_yaml.read_bytes()
    borrowed = [_digest(text.encode("utf-8")) for text in texts]
    write_json(_backup(project), {"own": own.decode("utf-8"), "lent": borrowed})
    with termination_as_interrupt():
        try:
            yield
        finally:
            _write(project, own)
            _backup(project).unlink()


def _restore_after_kill(project: Project) -> None:
    """Restore the file that a killed study left. A file that was edited since then stays as it is."""
    backup = _backup(project)
    if not backup.is_file():
        return
    state = read_json(backup)
    if _digest(project.params_yaml.read_bytes()) in state["lent"]:
        _write(project, state["own"].encode("utf-8"))
        warn(f"{project.params_yaml.name} still had the values of a study that was killed; it was restored")
    backup.unlink()


def _write(project: Project, content: bytes) -> None:
    if project.params_yaml.read_bytes() != content:
        with replacing_file(project.params_yaml) as temporary:
            temporary.write_bytes(content)


def _backup(project: Project) -> Path:
    return project.cache / "lending.json"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt on the signals that end a process."""
    if threading.current_thread() is not threading.main_thread():  # Python handles signals in the main thread only
        yield
        return
    handlers = {number: signal.getsignal(number) for number in _TERMINATION_SIGNALS}
    for number, handler in handlers.items():
        if handler is not signal.SIG_IGN:  # ignored under nohup
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _interrupt(_: int, __: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
