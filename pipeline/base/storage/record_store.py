"""Arrays on disk that can be made again, one a picture: `project.cache`/<kind>/<settings>/<digest>.records.

A record has the name of what it was made from. The folder has the name of all the settings that decide about its
records. A run maps the records that it finds, and writes those that it lacks to new shards, so that disk and time grow
with what is new. A shard never changes. So runs may read while another one writes.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from pipeline.base.errors import DiskFullError, PipeError
from pipeline.base.files import remove, sweep_stale, temporary_beside
from pipeline.base.storage.disk_space import disk_full, free_bytes, naming_a_full_disk
from pipeline.base.storage.making_time import add_records, making_time
from pipeline.base.storage.shard import Bytes, Shard, open_shard, write_shard

Shape = tuple[int, ...]
Fill = Callable[[Sequence[int], Sequence[NDArray[Any]]], None]  # fills the array of each position that it gets

SHARD_BYTES = 1 << 28  # that are made at a time, but for a larger record; a killed run loses no more than this
_SMALL_BYTES = 1 << 24  # a smaller shard is merged with others
_MOST_SMALL = 32  # so many small shards may lie there: each mapping keeps a file open, and processes may have 1,024
SHARD_SUFFIX = ".records"
_CHECKED_AT_ONCE = 64  # records, by a thread


@dataclass(frozen=True)
class _Found:
    """A record in a shard."""

    path: Path  # of the shard
    shard: Shard
    slot: int


@dataclass(frozen=True)
class RecordStore:
    """The records of one kind that were made with the same settings."""

    folder: Path
    dtype: np.dtype[Any]

    def read_or_make(self, names: Sequence[str], shapes: Sequence[Shape], fill: Fill) -> list[NDArray[Any]]:
        """Map records read-only, in the order of `names`. Those that are missing or not as written are made.

        A second run that lacks records waits until the first has made its own. An error of `fill` leaves the shards
        that were finished before it. A block of `making_time` around the call learns what the records cost.

        Args:
            names: sha256 of what each record is made from, in hex digits. Equal names are one record.
            shapes: of each record.
            fill: gets positions in `names`, and makes their records in the arrays that it gets, which are not empty.

        Raises:
            PipeError: the disk has no room for the records.
        """
        started = time.perf_counter()
        wanted = dict(zip(names, shapes, strict=True))
        found = self._find(wanted)
        if len(found) < len(wanted):
            found |= self._make_missing(names, _without(wanted, found), fill)
        records = {name: self._array(place.shard.record(place.slot), wanted[name]) for name, place in found.items()}
        seconds = {(self.folder, name): place.shard.seconds(place.slot) for name, place in found.items()}
        add_records(time.perf_counter() - started, seconds)
        return [records[name] for name in names]

    def _make_missing(self, names: Sequence[str], missing: Mapping[str, Shape], fill: Fill) -> dict[str, _Found]:
        """Make records that were not found, but for those that another run has made while this one waited."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "lock"):
            found = self._find(missing)
            missing = _without(missing, found)
            if missing:
                self._clean_up()
                self._make(names, missing, fill)
                found |= self._find(missing)
            if _without(missing, found):
                raise PipeError(
                    f"{self.folder}: records are not as they were just written; expected a disk that keeps them"
                )
            return found

    def _find(self, wanted: Mapping[str, Shape]) -> dict[str, _Found]:
        """Look for records in all shards, and check the bytes of those that are there."""
        there = [
            (name, _Found(path, shard, slot))
            for path, shard in _opened(self._paths())
            for slot, name in enumerate(shard.names)
            if name in wanted
        ]
        parts = [there[start : start + _CHECKED_AT_ONCE] for start in range(0, len(there), _CHECKED_AT_ONCE)]

        def whole(part: Sequence[tuple[str, _Found]]) -> list[tuple[str, _Found]]:
            return [
                (name, place)
                for name, place in part
                if place.shard.record(place.slot).nbytes == self._n_bytes(wanted[name])
                and place.shard.is_whole(place.slot)
            ]

        with ThreadPoolExecutor() as threads:
            found = dict(chain.from_iterable(threads.map(whole, parts)))
        for path in {place.path for place in found.values()}:
            with contextlib.suppress(OSError):  # of a folder that may only be read
                os.utime(path)  # `pipe clean` keeps what a run has read since the split was drawn
        return found

    def _make(self, names: Sequence[str], missing: Mapping[str, Shape], fill: Fill) -> None:
        """Make records in as many shards as they take."""
        n_bytes = sum(map(self._n_bytes, missing.values()))
        if n_bytes > free_bytes(self.folder):
            raise disk_full(self.folder, f"{n_bytes:,} bytes")
        position_of = dict(zip(reversed(names), reversed(range(len(names))), strict=True))  # the first of equal names
        for part in self._parts(missing):

            def fill_part(contents: list[Bytes], part: Sequence[str] = part) -> list[float]:
                started = time.perf_counter()
                arrays = [self._array(content, missing[name]) for name, content in zip(part, contents, strict=True)]
                with making_time() as inner:
                    fill([position_of[name] for name in part], arrays)
                # Records that `fill` reads, such as decoded frames, count with what making them took.
                seconds = time.perf_counter() - started - inner.spent + sum(inner.made.values())
                return [max(0.0, seconds) / len(part)] * len(part)

            self._write([(name, self._n_bytes(missing[name])) for name in part], fill_part)

    def _write(self, records: Sequence[tuple[str, int]], fill: Callable[[list[Bytes]], Sequence[float]]) -> None:
        """Write a shard whole or not at all."""
        temporary = temporary_beside(self.folder / "shard")
        try:
            with naming_a_full_disk(self.folder, temporary):
                digest = write_shard(temporary, records, fill, named=self.folder)
                temporary.replace(self.folder / f"{digest}{SHARD_SUFFIX}")
        finally:
            temporary.unlink(missing_ok=True)

    def _clean_up(self) -> None:
        """Remove what killed writers left, and files that are no shards; merge small shards where there are many."""
        sweep_stale(self.folder / "shard")
        for path in self._paths():
            with contextlib.suppress(OSError):  # one that only another user may read stays
                if open_shard(path) is None:
                    remove(path)
        small = [path for path in self._paths() if path.stat().st_size < _SMALL_BYTES]
        if len(small) > _MOST_SMALL:
            with contextlib.suppress(DiskFullError):  # there may still be room for what the run asks for
                self._merge(small)

    def _merge(self, paths: Sequence[Path]) -> None:
        """Copy the whole records of some shards to one shard, and remove these."""
        shards = list(_opened(paths))
        places = {
            name: _Found(path, shard, slot)
            for path, shard in shards
            for slot, name in enumerate(shard.names)
            if shard.is_whole(slot)
        }
        contents = [place.shard.record(place.slot) for place in places.values()]

        def copy(empty: list[Bytes]) -> list[float]:
            for target, content in zip(empty, contents, strict=True):
                target[:] = content
            return [place.shard.seconds(place.slot) for place in places.values()]

        self._write([(name, content.nbytes) for name, content in zip(places, contents, strict=True)], copy)
        for path, _ in shards:
            with contextlib.suppress(OSError):  # a file that is mapped cannot be removed everywhere
                remove(path)

    def _parts(self, missing: Mapping[str, Shape]) -> Iterator[list[str]]:
        """Divide records into those of one shard each."""
        part, n_bytes = list[str](), 0
        for name, shape in missing.items():
            if part and n_bytes + self._n_bytes(shape) > SHARD_BYTES:
                yield part
                part, n_bytes = [], 0
            part.append(name)
            n_bytes += self._n_bytes(shape)
        yield part

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{SHARD_SUFFIX}"))

    def _array(self, content: Bytes, shape: Shape) -> NDArray[Any]:
        return content.view(self.dtype).reshape(shape)

    def _n_bytes(self, shape: Shape) -> int:
        return math.prod(shape) * self.dtype.itemsize


def _without(wanted: Mapping[str, Shape], found: Mapping[str, _Found]) -> dict[str, Shape]:
    return {name: shape for name, shape in wanted.items() if name not in found}


def _opened(paths: Sequence[Path]) -> Iterator[tuple[Path, Shard]]:
    """Open the shards that this user may read."""
    _allow_open_files()
    for path in paths:
        with contextlib.suppress(PermissionError):
            shard = open_shard(path)
            if shard is not None:
                yield path, shard


@functools.cache
def _allow_open_files() -> None:
    """Let this process open as many files as the system allows: each mapped shard is one. The usual limit is 1,024."""
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # where the system does not mean its own limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
