"""What may not be on two sides of a split: told from the rows alone, so that every stage that reads them can check."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.errors import DataError, LeakageError
from pipeline.files import Project
from pipeline.manifest import SPLITS, Row

_PLACE = Project(Path()).split_csv.as_posix()

# What a row may share with rows of its own side only, and how a message calls it.
_UNDIVIDED = {"group": "group", "source_sha256": "recording with sha256", "path": "image"}


def refuse_leaks(rows: Sequence[Row]) -> None:
    """Refuse a split that tests on what was trained on; for whoever writes or reads `data/split.csv`.

    Raises:
        LeakageError: a group, the same recording (by its sha256) or an image is on two sides; an augmented image is
            in val or test, or in train without its parent. The first one is named, the others are counted.
        DataError: train or test has no kept frame.
    """
    for column, name in _UNDIVIDED.items():
        _refuse_divided(rows, column, name)
    _refuse_stray_copies(rows)
    for side in ("train", "test"):
        if not any(row.split == side and row.kept and not is_copy(row) for row in rows):
            raise DataError(f"{_PLACE}: no kept frame in {side}; expected at least one, run `pipe split` again")


def exact_duplicates_across_sides(rows: Iterable[Row]) -> list[dict[str, list[str]]]:
    """The recordings whose very bytes are on more than one side: their sources and sides, for the receipt."""
    return [
        {"sources": sorted({row.source for row in found.values()}), "splits": list(found)}
        for found in _divided(rows, "source_sha256").values()
    ]


def is_copy(row: Row) -> bool:
    """Whether the row is an augmented image and not a frame."""
    return bool(row.parent or row.transform)


def refuse_label_conflicts(frames: Iterable[Row], place: Path) -> None:
    """Refuse frames of which nobody can say what they show; `place` is their manifest, for the message.

    Raises:
        DataError: one recording stands under two labels, or one group does. The first is named, the others counted.
    """
    for column, found_as, advice in (
        ("source_sha256", "hold the same bytes", "delete the one whose label is wrong and run `pipe extract` again"),
        ("group", "are one group", "expected one label in a group"),
    ):
        conflicts = [found for found in _by_value(frames, column, "label").values() if len(found) > 1]
        if conflicts:
            first, second, *_ = conflicts[0].values()
            raise DataError(
                f"{place}: {first.source} (label {first.label!r}) and {second.source} (label {second.label!r}) "
                f"{found_as}{_more(len(conflicts) - 1)}; {advice}"
            )


def merge_exact_copies(frames: Sequence[Row]) -> tuple[list[Row], list[list[str]]]:
    """Make one group of the groups that hold the same recording under several names.

    Returns:
        The frames, with the first of the merged names (in sorted order) as their group; and the names merged.
    """
    name_of = {frame.group: frame.group for frame in frames}

    def root(group: str) -> str:
        while name_of[group] != group:
            group = name_of[group]
        return group

    first_with: dict[str, str] = {}
    for frame in frames:
        if frame.source_sha256:
            first, second = sorted((root(first_with.setdefault(frame.source_sha256, frame.group)), root(frame.group)))
            name_of[second] = first
    merged: dict[str, list[str]] = defaultdict(list)
    for group in sorted(name_of):
        merged[root(group)].append(group)
    return [replace(frame, group=root(frame.group)) for frame in frames], [m for m in merged.values() if len(m) > 1]


def _refuse_divided(rows: Iterable[Row], column: str, name: str) -> None:
    divided = _divided(rows, column)
    if divided:
        value, found = next(iter(divided.items()))
        where = " and ".join(f"{side} ({row.source})" for side, row in found.items())
        raise LeakageError(
            f"{_PLACE}: {name} {value!r} is in {where}{_more(len(divided) - 1)}; "
            "expected each on one side, run `pipe split` again"
        )


def _refuse_stray_copies(rows: Iterable[Row]) -> None:
    side_of = {row.path: row.split for row in rows if not is_copy(row)}
    strays = [
        row
        for row in rows
        if is_copy(row)
        and (row.split in ("val", "test") or (row.split == "train" and side_of.get(row.parent) != "train"))
    ]
    if strays:
        first = strays[0]
        raise LeakageError(
            f"{_PLACE}: augmented image {first.path!r} is in {first.split}, its parent {first.parent!r} in "
            f"{side_of.get(first.parent, 'no row')}{_more(len(strays) - 1)}; "
            "expected copies of training frames in train and the others unused, run `pipe split` again"
        )


def _divided(rows: Iterable[Row], column: str) -> dict[str, dict[str, Row]]:
    """The values of a column that occur on more than one side, with one row of each side."""
    sided = [row for row in rows if row.split != "unused"]
    return {
        value: {side: found[side] for side in SPLITS if side in found}
        for value, found in _by_value(sided, column, "split").items()
        if len(found) > 1
    }


def _by_value(rows: Iterable[Row], column: str, within: str) -> dict[str, dict[str, Row]]:
    """For each value of `column`, in sorted order: the values of `within` beside it, each with one of its rows."""
    found: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        if getattr(row, column):
            found[getattr(row, column)].setdefault(getattr(row, within), row)
    return dict(sorted(found.items()))


def _more(number: int) -> str:
    return f", and {number} more like it" if number else ""
