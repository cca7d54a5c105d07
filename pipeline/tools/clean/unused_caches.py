"""The entries of `.cache` that are not in use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.files import read_json
from pipeline.base.project import Project
from pipeline.base.storage.record_store import SHARD_SUFFIX

_LOGS = frozenset({"tensorboard", "wandb"})
_NO_ENTRY = frozenset({"no entry"})  # hashes of pictures that no table lists


def unused_entries(project: Project) -> Iterator[tuple[Path, str, tuple[Path, ...]]]:
    """Yield each folder of `.cache` that has unused entries, why they are unused, and the entries.

    An entry counts as used when a run has read or written it since the present frames, copies and split were made.
    Clips and copies count as used too while `data/frames.csv` or `data/augmented.csv` lists their pictures: those are
    linked and not read. Logs are never listed, since they cannot be made again.
    """
    tables = (project.frames_csv, project.augmented_csv, project.split_csv)
    if not project.cache.is_dir() or not all(table.is_file() for table in tables):
        return
    linked = {"clips": (project.frames_csv, _pictures_of_clip), "copies": (project.augmented_csv, _picture_of_copy)}
    since = min(table.stat().st_mtime for table in tables)
    for folder in sorted(path for path in project.cache.iterdir() if path.is_dir() and not path.is_symlink()):
        if folder.name in _LOGS:
            continue
        unused = [entry for entry in _entries(folder) if _last_use(entry) < since]
        reason = "not used since the present split was made"
        if folder.name in linked and unused:
            table, pictures_of = linked[folder.name]
            listed = {row.sha256 for row in manifest.read(table)}
            unused = [entry for entry in unused if not pictures_of(entry) <= listed]
            reason = f"{reason}, nor listed in {project.relative(table)}"
        if unused:
            yield folder, reason, tuple(unused)


def _pictures_of_clip(entry: Path) -> frozenset[str]:
    """The hashes of the pictures that an entry of the clip cache holds."""
    try:
        return frozenset(picture["sha256"] for picture in read_json(entry / "recorded.json")["recorded"]["pictures"])
    except (DataError, OSError, KeyError, TypeError):
        return _NO_ENTRY


def _picture_of_copy(entry: Path) -> frozenset[str]:
    """The hash of a copy, which its name holds: <key>.<sha256>.<width>x<height>.jpg."""
    parts = entry.name.split(".")
    return frozenset(parts[1:2]) or _NO_ENTRY


def _last_use(entry: Path) -> float:
    """When an entry was last read or written: whoever reads records marks their shard."""
    inside = entry.rglob("*") if entry.is_dir() else ()
    return max(float(path.lstat().st_mtime) for path in (entry, *inside))


def _entries(folder: Path) -> list[Path]:
    """What a folder of `.cache` holds: files, folders, and of a folder of records its shards."""
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return sorted(entry for path in visible for entry in (list(path.glob(f"*{SHARD_SUFFIX}")) or [path]))
