"""Groups, which a split may not divide: which recordings belong together."""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pipeline.base.errors import DataError
from pipeline.base.manifest import Row
from pipeline.base.storage.csv_files import table_lines
from pipeline.split.sources import Link
from runtime.system.regular_files import open_regular

GROUPS_COLUMNS = ("source", "group")
SESSION_COLUMN = "session"  # of data/groups.csv, which need not have it


def regroup(frames: Sequence[Row], groups_csv: Path, pattern: str | None) -> list[Row]:
    """Give frames the groups that the person names instead of their clip or photo.

    Args:
        frames: rows whose group is their recording.
        groups_csv: a CSV file of `source` (as in the manifest) and `group`, and perhaps `session`. It may be missing
            or empty.
        pattern: a regular expression, searched in the file name of every source that `groups_csv` does not name. The
            group is what its first parenthesis matched, or the whole match without one.

    Raises:
        DataError: the file names an unknown source, or one source twice; or the pattern does not fit.
    """
    sources = {frame.source for frame in frames}
    named = _named_groups(groups_csv, sources)
    if pattern is not None:
        named = {source: named.get(source) or _captured(pattern, source) for source in sorted(sources)}
    return [replace(frame, group=named[frame.source]) if frame.source in named else frame for frame in frames]


def confirmed_sources(frames: Iterable[Row], groups_csv: Path, pattern: str | None) -> dict[str, str]:
    """The sources whose group a person names, each with where: in `groups_csv`, or by `pattern`.

    Args:
        frames: rows of the manifest.
        groups_csv: as for `regroup`.
        pattern: as for `regroup`.

    Raises:
        DataError: as `regroup`.
    """
    sources = {frame.source for frame in frames}
    by_pattern = dict.fromkeys(sources, "split.group_pattern") if pattern is not None else {}
    return by_pattern | dict.fromkeys(_named_groups(groups_csv, sources), "named in data/groups.csv")


def merge_groups(
    frames: Sequence[Row], alike: Iterable[tuple[str, str]] = (), links: Iterable[Link] = ()
) -> tuple[list[Row], list[list[str]]]:
    """Merge groups that hold the same recording under several names, or pictures known to be the same.

    Args:
        frames: rows in their groups.
        alike: pairs of paths of frames that show the same picture, such as confirmed near duplicates.
        links: groups that are proposed to be one.

    Returns:
        The frames, with the first of the merged names (in sorted order) as their group; and the names of each merged
        group.

    Raises:
        DataError: two frames that are alike have two labels. Such a pair must be shown to the person, not merged.
    """
    root_of = {frame.group: frame.group for frame in frames}
    proposed = ((link.first, link.second) for link in links)
    for first, second in [*_same_recording(frames), *_groups_alike(frames, alike), *proposed]:
        kept, joined = sorted((root_of_group(root_of, first), root_of_group(root_of, second)))
        root_of[joined] = kept
    merged: dict[str, list[str]] = defaultdict(list)
    for group in sorted(root_of):
        merged[root_of_group(root_of, group)].append(group)
    settled = {group: root for root, groups in merged.items() for group in groups}
    moved = [
        frame if settled[frame.group] == frame.group else replace(frame, group=settled[frame.group]) for frame in frames
    ]
    return moved, [groups for groups in merged.values() if len(groups) > 1]


def read_groups_csv(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield the lines of `data/groups.csv`: `path:line number` for messages, the source, its group and its session.

    The session is empty where the file has no such column. Where it has, a group or a session may be empty.

    Raises:
        DataError: the file has other columns, or a line lacks a value.
    """
    for line, (source, group, *session) in _read_groups(path):
        yield line, source, group, session[0] if session else ""


def _named_groups(path: Path, sources: set[str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for line, source, group, _ in read_groups_csv(path):
        if source not in sources:
            raise DataError(f"{line}: no frame comes from {source!r}; expected a source such as {min(sources)!r}")
        if group and named.setdefault(source, group) != group:
            raise DataError(f"{line}: {source!r} is in {named[source]!r} and in {group!r}; expected one group")
    return named


def _captured(pattern: str, source: str) -> str:
    match = re.search(pattern, PurePosixPath(source).name)
    group = match and (match[1] if match.re.groups else match[0])
    if not group:
        raise DataError(
            f"{source}: split.group_pattern {pattern!r} finds no group in its name; "
            "expected a pattern that fits every file; change it, or name the group in data/groups.csv"
        )
    return group


def _same_recording(frames: Iterable[Row]) -> Iterator[tuple[str, str]]:
    first_with: dict[str, str] = {}
    for frame in frames:
        if frame.source_sha256 and first_with.setdefault(frame.source_sha256, frame.group) != frame.group:
            yield first_with[frame.source_sha256], frame.group


def _groups_alike(frames: Iterable[Row], alike: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    pairs = list(alike)
    wanted = {path for pair in pairs for path in pair}
    by_path = {frame.path: frame for frame in frames if frame.path in wanted}
    for first, second in ((by_path[first], by_path[second]) for first, second in pairs):
        if first.label != second.label:
            raise DataError(
                f"{first.path} (label {first.label!r}) and {second.path} (label {second.label!r}) show the same; "
                "expected one label; correct the wrong one"
            )
        yield first.group, second.group


def root_of_group(root_of: dict[str, str], group: str) -> str:
    """Follow the groups that each group was joined to, up to one that was joined to none."""
    while root_of[group] != group:
        root_of[group] = root_of[root_of[group]]  # halves the path; without this a long chain takes quadratic time
        group = root_of[group]
    return group


def read_lines(path: Path) -> list[list[str]]:
    """The lines of a CSV file that a person may edit, the header first; none where it is missing or empty.

    Raises:
        DataError: the file is not UTF-8, or is not CSV.
    """
    try:
        with io.TextIOWrapper(open_regular(path), encoding="utf-8-sig", newline="") as file:
            return list(table_lines(file))
    except FileNotFoundError:
        return []
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a UTF-8 CSV file ({error})") from error


def _read_groups(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The lines of `data/groups.csv`: `path:line number` for messages, and the cells.

    The file may have the column `session` too. Then a line needs its source and one of the others.
    """
    header, *lines = read_lines(path) or [list(GROUPS_COLUMNS)]
    has_session = header == [*GROUPS_COLUMNS, SESSION_COLUMN]
    if header != list(GROUPS_COLUMNS) and not has_session:
        raise DataError(
            f"{path}: found the columns {','.join(header) or 'none'}; expected {','.join(GROUPS_COLUMNS)}, "
            f"and perhaps {SESSION_COLUMN}"
        )
    for line_number, cells in enumerate(lines, start=2):
        is_filled = bool(cells) and (bool(cells[0]) and any(cells[1:]) if has_session else all(cells))
        if cells and (len(cells) != len(header) or not is_filled):
            expected = f"{header[0]}, and one of" if has_session else "each of"
            names = ",".join(header[1:] if has_session else header)
            raise DataError(f"{path}:{line_number}: found {','.join(cells)}; expected a value for {expected} {names}")
        if cells:
            yield f"{path}:{line_number}", cells
