"""Where everything in a project lies, and the one way in which outputs appear: whole, or not at all."""

from __future__ import annotations

import contextlib
import csv
import ctypes
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from pipeline.errors import DataError


class _Under:
    """A path of a project, below its root."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __get__(self, project: Project, _: type[Project]) -> Path:
        return project.root / self.path


@dataclass(frozen=True)
class Project:
    """The paths of one project. Stages ask it; nothing else spells them."""

    root: Path

    params_yaml = _Under("params.yaml")
    dvc_lock = _Under("dvc.lock")
    recipes = _Under("recipes")
    raw = _Under("data/raw")
    frames = _Under("data/frames")
    frames_csv = _Under("data/frames.csv")
    extract_json = _Under("reports/extract.json")
    augmented = _Under("data/augmented")
    augmented_csv = _Under("data/augmented.csv")
    dataset_reports = _Under("reports/dataset")
    groups_csv = _Under("data/groups.csv")
    split_keep_csv = _Under("data/split.keep.csv")
    split_csv = _Under("data/split.csv")
    split_json = _Under("reports/split.json")
    near_duplicates_png = _Under("reports/near_duplicates.png")
    checkpoint = _Under("models/checkpoint.pt")
    # What outlives a run and is shared by runs; nothing else hangs on it, so it may be deleted at any time.
    cache = _Under(".cache")
    tensorboard = _Under(".cache/tensorboard")
    train_reports = _Under("reports/train")
    evaluate_json = _Under("reports/evaluate.json")
    metrics_json = _Under("reports/metrics.json")
    predictions_csv = _Under("reports/predictions.csv")
    plots = _Under("reports/plots")
    explanations = _Under("reports/explain")
    onnx = _Under("models/onnx")
    contract_json = _Under("models/contract.json")
    export_json = _Under("reports/export.json")
    golden = _Under("models/golden")
    parity_json = _Under("reports/parity.json")
    flips_csv = _Under("reports/flips.csv")
    flips_png = _Under("reports/flips.png")
    compare_reports = _Under("reports/compare")
    report_html = _Under("reports/report.html")
    runtime = _Under("runtime")
    bundle_zip = _Under("dist/bundle.zip")

    def resume_state(self, key: str) -> Path:
        """The state of a training run that was stopped."""
        return self.cache / "resume" / f"{key}.pt"

    def relative(self, path: Path) -> str:
        """The path as manifests spell it: relative to the project, with `/`."""
        return path.relative_to(self.root).as_posix()


def safe_join(root: Path, name: str) -> Path:
    """The file that a manifest names, refusing names that leave the project.

    Raises:
        DataError: the name is absolute, has `..` or a backslash, or is empty.
    """
    check_inside(name)
    return root.joinpath(name)


def check_inside(name: str) -> None:
    """Refuse a name that leaves the project, by its letters alone: a manifest may hold a million.

    Raises:
        DataError: as `safe_join`.
    """
    leaves = name.startswith("/") or "\\" in name or "\0" in name or (".." in name and ".." in name.split("/"))
    if leaves or not name.strip("./"):
        raise DataError(f"{name!r}: leaves the project; expected a relative path with / between its parts")


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """Parse a JSON report or contract; NaN and Infinity are refused.

    Raises:
        DataError: the file is missing or is not JSON.
    """

    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing; run the stage that writes it") from error
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error


def write_json(path: Path, value: Any) -> None:
    """Write a report: sorted as given, indented, Unicode kept, no NaN, whole or not at all."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    with replacing_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_csv(path: Path, lines: Iterable[Iterable[object]]) -> None:
    """Write a table, the header being the first line, whole or not at all.

    The name of a file that is asked about may be bytes that are no text: they are written as escapes.
    """
    with (
        replacing_file(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        csv.writer(_UnixLines(file), lineterminator="\r\n").writerows(lines)


@dataclass(frozen=True)
class _UnixLines:
    """Ends each line in a bare newline.

    With that as the writer's own line end, Python 3.11 does not quote a carriage return in a name, and then cannot
    read it.
    """

    file: TextIO

    def write(self, line: str) -> int:
        return self.file.write(line.removesuffix("\r\n") + "\n")


@contextlib.contextmanager
def alone(project: Project, command: str) -> Iterator[None]:
    """Let nobody else run `command` (`pipe extract`) in the project meanwhile; who is killed stands in nobody's way.

    Raises:
        DataError: somebody else does.
    """
    from filelock import FileLock, Timeout

    project.cache.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(project.cache / f"{command.replace(' ', '_')}.lock").acquire(blocking=False)
    except Timeout as error:
        raise DataError(f"{project.root}: another `{command}` is running here; wait until it has ended") from error
    with held:
        yield


@contextlib.contextmanager
def replacing_file(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target`; when the block ends well, it becomes `target`.

    The temporary is flushed before the rename and the parent after it, so that after a power cut there is the old
    file or the new one. When the block raises, `target` is as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep_stale(target)
    temporary = _temporary_beside(target)
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(target)
        _flush(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Give an empty temporary folder beside `target`; when the block ends well, it becomes `target`.

    Everything in it is on disk before the rename, so a manifest written afterwards vouches for files that exist.

    Raises:
        DataError: `target` is a file or a link: what a link leads to may be anybody's, and is not ours to replace.
    """
    if target.is_symlink() or target.is_file():
        raise DataError(f"{target}: a {'link' if target.is_symlink() else 'file'}; expected a folder, or a free name")
    with temporary_folder(target) as temporary:
        yield temporary
        flush_filesystem(temporary)
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
        _flush(target.parent)


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder beside `target`, on its file system; it is gone when the block ends."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep_stale(target)
    temporary = _temporary_beside(target)
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def flush_filesystem(folder: Path) -> None:
    """Flush the file system that holds `folder`: one call where thousands of fsyncs would take minutes."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None:  # not Linux
            os.sync()
        elif syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)


def sweep_stale(target: Path) -> None:
    """Remove temporaries of `target` that processes left behind which are gone."""
    for stale in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        owner = stale.name.removesuffix(".tmp").rsplit(".", 1)[-1]
        if not owner.isdigit() or (int(owner) != os.getpid() and _is_running(int(owner))):
            continue
        if stale.is_dir() and not stale.is_symlink():
            shutil.rmtree(stale)
        else:
            stale.unlink()


def _temporary_beside(target: Path) -> Path:
    return target.parent / f".{target.name}.{os.getpid()}.tmp"


def _is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except OSError as error:
        return isinstance(error, PermissionError)  # somebody else's process
    return True


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
