"""`params.yaml`, lent to one run after another, and afterwards as it was."""

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

# Sent by `kill`, by whoever shuts a machine down, and by a terminal that is closed (not on Windows).
_GOODBYES = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextlib.contextmanager
def alone_with_params(project: Project) -> Iterator[None]:
    """Let nobody else lend `params.yaml` meanwhile; what somebody left in it who was killed is put back first.

    Raises:
        DataError: somebody else is lending it.
    """
    with exclusive_lock(project, "pipe study"):
        _put_back(project)
        yield


@contextlib.contextmanager
def lending_params(project: Project, texts: Sequence[str]) -> Iterator[None]:
    """Put `params.yaml` back as it was, whatever happens in the block; `texts` are what it may hold meanwhile.

    SIGTERM and a closed terminal end the block as Ctrl-C does. After SIGKILL it is put back by the next
    `alone_with_params`.
    """
    own = project.params_yaml.read_bytes()
    lent = [_digest(text.encode("utf-8")) for text in texts]
    write_json(_note(project), {"own": own.decode("utf-8"), "lent": lent})
    with _goodbyes_as_interrupts():
        try:
            yield
        finally:
            _write(project, own)
            _note(project).unlink()


def _put_back(project: Project) -> None:
    """What a lender was killed over; a `params.yaml` that somebody has changed since stays as it is."""
    note = _note(project)
    if not note.is_file():
        return
    kept = read_json(note)
    if _digest(project.params_yaml.read_bytes()) in kept["lent"]:
        _write(project, kept["own"].encode("utf-8"))
        warn(f"{project.params_yaml.name} still had the values of a study that was killed; it is as it was before")
    note.unlink()


def _write(project: Project, content: bytes) -> None:
    if project.params_yaml.read_bytes() != content:
        with replacing_file(project.params_yaml) as temporary:
            temporary.write_bytes(content)


def _note(project: Project) -> Path:
    return project.cache / "lending.json"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def _goodbyes_as_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # Python asks only the main one
        yield
        return
    before = {number: signal.getsignal(number) for number in _GOODBYES}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_: int, __: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
