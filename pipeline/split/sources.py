"""Sources: what the rows of the manifest say of each recording, and which recordings belong together."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from pipeline.base.manifest import Row


@dataclass(frozen=True, slots=True)
class Source:
    """One photo or clip."""

    name: str  # relative to the project
    label: str
    group: str
    given_split: str
    recorded_at: datetime | None
    camera: str
    burst_ids: tuple[str, ...]  # burst=… and live=…
    last_seconds: float | None  # time of a clip's last frame; None for a photo
    step_seconds: float  # longest time between two frames of a clip

    @property
    def is_photo(self) -> bool:
        """Whether it is a photo."""
        return self.last_seconds is None

    @property
    def folder(self) -> str:
        """The folder that it lies in."""
        return posixpath.dirname(self.name)  # not by pathlib, which takes ten times as long

    @property
    def stem(self) -> str:
        """Its file name without the suffix."""
        return posixpath.splitext(posixpath.basename(self.name))[0]


@dataclass(frozen=True)
class Run:
    """Sources of one class that belong together."""

    sources: tuple[Source, ...]  # two or more
    reason: str
    name: str  # what they share, for messages

    @property
    def label(self) -> str:
        """Their class."""
        return self.sources[0].label


@dataclass(frozen=True)
class Link:
    """Two groups that are proposed to be one."""

    first: str
    second: str
    reason: str


def sources_of(frames: Iterable[Row]) -> list[Source]:
    """The sources of the frames, sorted by name."""
    first_rows: dict[str, Row] = {}
    times: dict[str, list[float]] = defaultdict(list)
    for frame in frames:
        first_rows.setdefault(frame.source, frame)
        if frame.time_seconds is not None:
            times[frame.source].append(frame.time_seconds)
    return [_source(first_rows[name], sorted(times.get(name, ()))) for name in sorted(first_rows)]


def _source(row: Row, times: Sequence[float]) -> Source:
    return Source(
        name=row.source,
        label=row.label,
        group=row.group,
        given_split=row.given_split,
        recorded_at=datetime.fromisoformat(row.recorded_at) if row.recorded_at else None,
        camera=row.camera,
        burst_ids=tuple(row.burst.split()),
        last_seconds=times[-1] if times else None,
        step_seconds=max((late - early for early, late in pairwise(times)), default=0.0),
    )
