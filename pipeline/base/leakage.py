"""What may not be on two sides of a split. The rows alone decide, so that every stage that reads them can check."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import groupby, pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any

from pipeline.base.errors import DataError, LeakageError
from pipeline.base.files import read_json
from pipeline.base.manifest import SPLITS, Row, read_split
from pipeline.base.project import Project

_SPLIT_CSV = Project(Path()).split_csv.as_posix()

# The columns whose value may be on one side only, and the noun for each in a message.
_UNDIVIDED = {"group": "group", "source_sha256": "recording with sha256", "path": "image"}
DIVIDING_PROTOCOLS = ("blocks", "random")  # two sides may share a clip, but not an image
_PROTOCOLS = ("grouped", "given", *DIVIDING_PROTOCOLS)


def read_split_without_leaks(project: Project) -> list[Row]:
    """Read `data/split.csv` and refuse leaks that its protocol, in `reports/split.json`, does not allow.

    Raises:
        LeakageError, DataError: as `refuse_leaks`, or a file is missing or not one that `pipe split` wrote.
    """
    rows = read_split(project.split_csv)
    receipt = read_json(project.split_json)
    protocol = receipt.get("protocol") if isinstance(receipt, dict) else None
    if protocol not in _PROTOCOLS:
        raise DataError(
            f"{project.split_json}: protocol is {protocol!r}; expected one of {', '.join(_PROTOCOLS)}, "
            "run `pipe split` again"
        )
    refuse_leaks(rows, protocol, augmented_in_test=receipt.get("augmented_in_test") is True)
    return rows


def refuse_leaks(rows: Sequence[Row], protocol: str = "grouped", *, augmented_in_test: bool = False) -> None:
    """Refuse a split in which training and test share something. Every writer and reader of `data/split.csv` calls it.

    Args:
        rows: all rows of the split.
        protocol: `blocks` and `random` may have a clip on two sides, `grouped` and `given` may not.
        augmented_in_test: whether augmented images may be on any side, as in some papers; only with `random`.

    Raises:
        LeakageError: a group, a recording (by its sha256) or an image is on two sides or in two folds; the stretches
            of a clip overlap in time; or an augmented image is in val or test, or in train without its parent. The
            message names the first leak and counts the others.
        DataError: train or test has no kept frame.
    """
    for column, name in _UNDIVIDED.items():
        if column == "path" or protocol not in DIVIDING_PROTOCOLS:
            _refuse_divided(rows, column, name)
    _refuse_divided_folds(rows)
    if protocol == "blocks":
        _refuse_overlaps(rows)
    if protocol != "random" or not augmented_in_test:
        _refuse_stray_copies(rows)
    for side in ("train", "test"):
        if not any(row.split == side and row.kept and not row.is_copy for row in rows):
            raise DataError(f"{_SPLIT_CSV}: no kept frame in {side}; expected at least one, run `pipe split` again")


def exact_duplicates_across_sides(rows: Iterable[Row]) -> list[dict[str, list[str]]]:
    """The sources and sides of recordings that have several names and are on several sides, for the split's report."""
    sided = [row for row in rows if row.split != "unused"]
    renamed = {sha256 for sha256, _ in _divided(sided, "source_sha256", "source")}
    divided = _divided([row for row in sided if row.source_sha256 in renamed], "source_sha256", "split")
    sources: dict[str, set[str]] = {sha256: set() for sha256, _ in divided}
    for row in sided if divided else ():
        sources.get(row.source_sha256, set()).add(row.source)
    return [{"sources": sorted(sources[sha256]), "splits": _in_order(row_by_side)} for sha256, row_by_side in divided]


def clips_across_sides(rows: Iterable[Row]) -> dict[str, Any]:
    """How near two sides come to each other within a clip, for the report of a protocol that divides clips.

    Returns:
        `clips`: how many clips have frames on more than one side. `nearest_seconds`: the least time between two kept
        frames of one clip that are on two sides; null where no clip is divided.
    """
    nearest = {
        source: min(late - early for (early, side), (late, next_side) in pairwise(times) if side != next_side)
        for source, times in _times_by_source(rows).items()
        if len({side for _, side in times}) > 1
    }
    return {"clips": len(nearest), "nearest_seconds": round(min(nearest.values()), 6) if nearest else None}


def refuse_label_conflicts(frames: Sequence[Row], manifest_path: Path, named: Collection[str] = ()) -> None:
    """Refuse frames whose label is ambiguous.

    Args:
        frames: all frames, in their groups.
        manifest_path: where they are listed, for the message.
        named: groups that a person has named one by one, and which may hold several labels.

    Raises:
        DataError: a recording or a group has two labels. The message names the first and counts the others.
    """
    name_it = "expected one label in a group; name the group in data/groups.csv if it holds several"
    for column, problem, advice in (
        ("source_sha256", "hold the same bytes", "delete the one whose label is wrong and run `pipe extract` again"),
        ("group", "are one group", name_it),
    ):
        conflicts = [
            conflict for conflict in _divided(frames, column, "label") if column != "group" or conflict[0] not in named
        ]
        if conflicts:
            first, second, *_ = conflicts[0][1].values()
            raise DataError(
                f"{manifest_path}: {first.source} (label {first.label!r}) and {second.source} (label {second.label!r}) "
                f"{problem}{_more(len(conflicts) - 1)}; {advice}"
            )


def _refuse_divided(rows: Iterable[Row], column: str, name: str) -> None:
    divided = _divided([row for row in rows if row.split != "unused"], column, "split")
    if divided:
        value, row_by_side = divided[0]
        where = " and ".join(f"{side} ({row_by_side[side].source})" for side in _in_order(row_by_side))
        raise LeakageError(
            f"{_SPLIT_CSV}: {name} {value!r} is in {where}{_more(len(divided) - 1)}; "
            "expected each on one side, run `pipe split` again"
        )


def _refuse_divided_folds(rows: Iterable[Row]) -> None:
    in_folds = [row for row in rows if row.fold is not None]
    for column, name in _UNDIVIDED.items() if in_folds else ():
        divided = _divided(in_folds, column, "fold")
        if divided:
            value, row_by_fold = divided[0]
            where = " and ".join(f"fold {fold} ({row_by_fold[fold].source})" for fold in sorted(row_by_fold))
            raise LeakageError(
                f"{_SPLIT_CSV}: {name} {value!r} is in {where}{_more(len(divided) - 1)}; "
                "expected each in one fold, run `pipe split` again"
            )


def _refuse_overlaps(rows: Iterable[Row]) -> None:
    """Refuse a clip in which one side has frames before and after those of another."""
    for source, times in _times_by_source(rows).items():
        stretches = [side for side, _ in groupby(side for _, side in times)]
        if len(stretches) > len(set(stretches)):
            raise LeakageError(
                f"{_SPLIT_CSV}: the frames of {source} change sides {len(stretches) - 1} times; "
                "expected one stretch of time per side, run `pipe split` again"
            )


def _times_by_source(rows: Iterable[Row]) -> dict[str, list[tuple[float, str]]]:
    """For each clip the time and side of its kept frames, sorted by time. Unused frames are left out."""
    times: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for row in rows:
        if row.time_seconds is not None and row.kept and row.split != "unused" and not row.is_copy:
            times[row.source].append((row.time_seconds, row.split))
    return {source: sorted(times[source]) for source in sorted(times)}


def _refuse_stray_copies(rows: Iterable[Row]) -> None:
    side_of = {row.path: row.split for row in rows if not row.is_copy}
    strays = [
        row
        for row in rows
        if row.is_copy
        and (row.split in ("val", "test") or (row.split == "train" and side_of.get(row.parent) != "train"))
    ]
    if strays:
        first = strays[0]
        raise LeakageError(
            f"{_SPLIT_CSV}: augmented image {first.path!r} is in {first.split}, its parent {first.parent!r} in "
            f"{side_of.get(first.parent, 'no row')}{_more(len(strays) - 1)}; "
            "expected copies of training frames in train and the others unused, run `pipe split` again"
        )


def _divided(rows: Sequence[Row], column: str, within: str) -> list[tuple[str, dict[Any, Row]]]:
    """Values of `column` whose rows have several values of `within`, sorted, each with the first row by `within`."""
    value_of, within_of = attrgetter(column), attrgetter(within)
    first: dict[str, Any] = {}
    divided = {value_of(row) for row in rows if first.setdefault(value_of(row), within_of(row)) != within_of(row)}
    examples: dict[str, dict[Any, Row]] = {value: {} for value in sorted(divided) if value}
    for row in rows if examples else ():
        if value_of(row) in examples:
            examples[value_of(row)].setdefault(within_of(row), row)
    return list(examples.items())


def _in_order(sides: Iterable[str]) -> list[str]:
    return sorted(sides, key=SPLITS.index)


def _more(n_others: int) -> str:
    return f", and {n_others} more like it" if n_others else ""
