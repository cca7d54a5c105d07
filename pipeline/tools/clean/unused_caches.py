"""The entries of `.cache` that are not in use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.files import read_json
from pipeline.base.project import Project

_CLIPS, _LOGS = "clips", "tensorboard"


def unused_entries(project: Project) -> Iterator[tuple[Path, str, tuple[Path, ...]]]:
    """Yield each folder of `.cache` that has unused entries, why they are unused, and the entries.

    A clip counts as used while `data/frames.csv` lists its pictures, or when it was decoded after that file was
    written, as by a `pipe extract` that was stopped. Another entry counts as used when a run has read or written it
    since `data/split.csv` was written. Logs are never listed: they cannot be made again.
    """
    if not project.cache.is_dir():
        return
    folders = sorted(path for path in project.cache.iterdir() if path.is_dir() and not path.is_symlink())
    for folder in folders:
        if folder.name == _LOGS:
            continue
        if folder.name == _CLIPS:
            reason, unused = "clips that data/frames.csv does not list", _unused_clips(folder, project)
        else:
            reason, unused = "not used since data/split.csv was written", _unused_since_split(folder, project)
        if unused:
            yield folder, reason, unused


def _unused_clips(folder: Path, project: Project) -> tuple[Path, ...]:
    try:
        used = {row.sha256 for row in manifest.read(project.frames_csv)}
        since = project.frames_csv.stat().st_mtime
    except (DataError, OSError):  # no frames yet
        return ()
    return tuple(entry for entry in _entries(folder) if _last_use(entry) < since and not _pictures(entry) <= used)


def _pictures(entry: Path) -> set[str]:
    """The hashes of the pictures that an entry holds; for what is no entry, one that no picture has."""
    try:
        return {picture["sha256"] for picture in read_json(entry / "recorded.json")["recorded"]["pictures"]}
    except (DataError, OSError, KeyError, TypeError):
        return {"not an entry"}


def _unused_since_split(folder: Path, project: Project) -> tuple[Path, ...]:
    if not project.split_csv.is_file():
        return ()
    since = project.split_csv.stat().st_mtime
    return tuple(entry for entry in _entries(folder) if _last_use(entry) < since)


def _last_use(entry: Path) -> float:
    """When an entry was last read or written: whoever reads an array marks its folder."""
    inside = entry.rglob("*") if entry.is_dir() else ()
    return max(float(path.lstat().st_mtime) for path in (entry, *inside))


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix != ".lock" and not path.name.startswith("."))
