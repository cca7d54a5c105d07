"""Sessions: recordings of one day, place or phone, which `data/groups.csv` names and a split can hold out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipeline.base.errors import DataError, nearest
from pipeline.base.manifest import UNUSED, Row
from pipeline.base.project import Project
from pipeline.split.grouping import read_groups_csv

_GROUPS_CSV = Project(Path()).groups_csv.as_posix()


def read_sessions(groups_csv: Path) -> dict[str, str]:
    """Read the session of each source that has one; `regroup` has checked that the sources exist.

    Raises:
        DataError: a source is in two sessions.
    """
    session_of: dict[str, str] = {}
    for line, source, _, session in read_groups_csv(groups_csv):
        if session and session_of.setdefault(source, session) != session:
            raise DataError(f"{line}: {source!r} is in {session_of[source]!r} and in {session!r}; expected one session")
    return session_of


def groups_of_session(frames: Iterable[Row], session: str, session_of: Mapping[str, str]) -> set[str]:
    """The groups whose recordings are of one session.

    Args:
        frames: all frames, in their groups.
        session: the name of the session.
        session_of: the session of each source that has one.

    Raises:
        DataError: no recording is of the session, or a group has recordings of it and others.
    """
    sources_of: dict[str, dict[bool, str]] = defaultdict(dict)  # by group, one source in the session and one outside
    for frame in frames:
        sources_of[frame.group].setdefault(session_of.get(frame.source) == session, frame.source)
    held_out = {group for group, sources in sources_of.items() if True in sources}
    if not held_out:
        close = nearest(session, sorted(set(session_of.values())))
        expected = f"expected a session of its column, such as {close!r}" if close else "it names no session"
        raise DataError(f"{_GROUPS_CSV}: no frame is of the session {session!r} that split.hold_out names; {expected}")
    for group in sorted(held_out):
        if False in sources_of[group]:
            inside, outside = sources_of[group][True], sources_of[group][False]
            raise DataError(
                f"{_GROUPS_CSV}: {inside} is of the session {session!r}, and {outside}, which is in the same group, is "
                "not; expected all recordings of a group in one session (those that show the same pixels are one group)"
            )
    return held_out


def groups_by_session(rows: Sequence[Row], session_of: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """The number of groups that each session has on each side, for the receipt."""
    placed = {
        (session_of[row.source], row.split, row.group)
        for row in rows
        if row.source in session_of and row.split != UNUSED
    }
    counts: dict[str, dict[str, int]] = {session: {} for session in sorted(set(session_of.values()))}
    for session, side, _ in sorted(placed):
        counts[session][side] = counts[session].get(side, 0) + 1
    return counts
