"""Read and write files: hashes, JSON, and outputs that appear whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import glob
import hashlib
import inspect
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pipeline.base.errors import DataError
from pipeline.base.project import Project, missing
from pipeline.base.storage.disk_space import naming_a_full_disk
from runtime.system.regular_files import open_regular
from runtime.system.scratch import is_running, machine_digits

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_LONGEST_NAME = 200  # bytes, of the 255 that file systems allow
_CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES}


def sha256_of(path: Path) -> str:
    """The hex digest of a file's bytes, which are read in blocks."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """Parse a JSON report or contract, and refuse NaN and Infinity.

    Raises:
        DataError: the file is missing or is not JSON.
    """

    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is not JSON")

    try:
        with open_regular(path) as file:
            return json.loads(file.read().decode("utf-8"), parse_constant=refuse)
    except FileNotFoundError as error:
        raise missing(path) from error
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all: keys in the order given, indented, Unicode unescaped, NaN refused."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    with replacing_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


@contextlib.contextmanager
def exclusive_lock(project: Project, command: str) -> Iterator[None]:
    """Hold an exclusive lock for `command`, such as `pipe extract`. A killed process releases its lock.

    Raises:
        DataError: another process holds the lock.
    """
    from filelock import FileLock, Timeout

    project.cache.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(project.cache / f"{command.replace(' ', '_')}.lock").acquire(blocking=False)
    except Timeout as error:
        raise DataError(f"{project.root}: another `{command}` is running here; wait until it has ended") from error
    with lock:
        yield


def exclusive(command: str) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Let a stage hold the lock of `command` in its argument `project`, as `exclusive_lock` does.

    Of several processes that train together the first one holds the lock, since it alone writes.
    """

    def decorate(stage: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        signature = inspect.signature(stage)

        @functools.wraps(stage)
        def locked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            if os.environ.get("RANK", "0") != "0":  # torchrun and accelerate number their processes so
                return stage(*args, **kwargs)
            with exclusive_lock(signature.bind(*args, **kwargs).arguments["project"], command):
                return stage(*args, **kwargs)

        return locked

    return decorate


def check_output(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Refuse a file to write that a person named by mistake, before it is replaced.

    Args:
        path: the file.
        inputs: what the command reads.

    Raises:
        DataError: the file is one of the inputs, a link, a folder or a device.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise DataError(f"{path}: a link, a folder or a device; expected a free name, or a file to replace")
    if any(_is_same_file(path, each) for each in inputs):
        raise DataError(f"{path}: is read by this command; expected another name for what it writes")


def _is_same_file(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:  # one of them is not there, or cannot be looked at
        return False


@contextlib.contextmanager
def replacing_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`. When the block ends without an error, that file becomes `target`.

    The temporary file is flushed before the rename, and the folder after it. So a power cut leaves either the old file
    or the new one. When the block raises, `target` stays as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep_stale(target)
    temporary = temporary_beside(target)
    try:
        with naming_a_full_disk(target, temporary):
            yield temporary
            _flush(temporary)
            temporary.replace(target)
            _flush(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `target`. When the block ends without an error, it becomes `target`.

    All its files are on disk before the rename, so a manifest that is written afterwards lists files that exist. The
    old folder is moved aside before it is removed: a process that is stopped leaves no half of it.

    Raises:
        DataError: `target` is a file or a link. The folder behind a link may be anybody's, and is not ours to replace.
    """
    if target.is_symlink() or target.is_file():
        raise DataError(f"{target}: a {'link' if target.is_symlink() else 'file'}; expected a folder, or a free name")
    with temporary_folder(target) as temporary, naming_a_full_disk(target, temporary):
        yield temporary
        flush_filesystem(temporary)
        with _moved_aside(target):
            temporary.rename(target)
            _flush(target.parent)


@contextlib.contextmanager
def _moved_aside(target: Path) -> Iterator[None]:
    """Move a folder away, and remove it when the block ends; where the block has put nothing there, move it back."""
    former = temporary_beside(target.with_name(f"{target.name}.former"))
    try:
        if target.exists():
            target.rename(former)
        yield
    finally:
        if former.exists() and not target.exists():
            former.rename(target)
        shutil.rmtree(former, ignore_errors=True)


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target`, on the same file system, and remove it when the block ends."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep_stale(target)
    temporary = temporary_beside(target)
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that it holds, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Make a hard link to a file, or a copy of it where links are refused.

    Raises:
        OSError: there is a file at `target`, or it cannot be written.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        shutil.copyfile(source, target)


def flush_filesystem(folder: Path) -> None:
    """Flush the file system that holds `folder`, in one call: thousands of fsyncs would take minutes."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None:  # not Linux
            os.sync()
        elif syncfs(descriptor) != 0:
            error_number = ctypes.get_errno()
            raise OSError(error_number, os.strerror(error_number), str(folder))
    finally:
        os.close(descriptor)


def temporary_beside(target: Path) -> Path:
    """The path of this process for what becomes `target`. Machines may share the folder, and number their processes."""
    return target.parent / f".{_short_name(target)}.{machine_digits()}-{os.getpid()}.tmp"


def sweep_stale(target: Path) -> None:
    """Remove the temporaries of `target` that killed processes of this machine left behind."""
    _remove_stale(target.parent.glob(f".{glob.escape(_short_name(target))}.*.tmp"))


def _short_name(target: Path) -> str:
    """The name of a file, or a digest of one that leaves no room for what a temporary adds to it."""
    content = os.fsencode(target.name)
    return target.name if len(content) <= _LONGEST_NAME else hashlib.sha256(content).hexdigest()


def sweep_folder(folder: Path) -> None:
    """Remove the temporaries of all targets in a folder that killed processes of this machine left behind."""
    _remove_stale(folder.glob(".*.tmp"))


def _remove_stale(temporaries: Iterable[Path]) -> None:
    for temporary in temporaries:
        # Earlier versions wrote no machine.
        owner = re.fullmatch(rf"(?:{machine_digits()}-)?(\d+)", temporary.name.removesuffix(".tmp").rsplit(".", 1)[-1])
        if owner and (int(owner[1]) == os.getpid() or not is_running(int(owner[1]))):
            with contextlib.suppress(FileNotFoundError):  # another process sweeps too
                remove(temporary)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
