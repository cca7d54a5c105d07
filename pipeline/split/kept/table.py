"""`data/split.keep.csv`: the side and the fold that each recording keeps, by the sha256 of its file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path

from pipeline.base.errors import DataError
from pipeline.base.manifest import SIDES
from pipeline.base.storage.csv_files import write_csv
from pipeline.split.folds import MOST_FOLDS
from pipeline.split.grouping import read_lines

COLUMNS = ("source_sha256", "source", "split", "fold", "dealt_by")
COLUMNS_BEFORE = ("group", "split")  # of earlier versions
FROZEN = "an earlier version"  # what stands in `dealt_by` for these


@dataclass(frozen=True, slots=True)
class Place:
    """Where a recording lies: a line of the table."""

    source_sha256: str  # empty in a line that a person wrote, until the next split
    source: str  # the recording when `split` saw it last; in a line without sha256 it may be a group
    split: str  # train, val or test
    fold: int | None = None  # None where there were no folds
    dealt_by: str = ""  # the params that dealt it; empty where a person chose the side
    line: str = field(default="", compare=False)  # path:line number, for messages

    @property
    def is_by_hand(self) -> bool:
        """Whether a person chose the side."""
        return not self.dealt_by

    @property
    def words(self) -> str:
        """The side and the fold, for messages."""
        return self.split if self.fold is None else f"{self.split}, fold {self.fold}"


@dataclass(frozen=True)
class KeptTable:
    """The lines of the table."""

    places: tuple[Place, ...] = ()
    has_columns_of_before: bool = False

    def by_hand(self) -> KeptTable:
        """The lines in which a person chose the side."""
        return replace(self, places=tuple(place for place in self.places if place.is_by_hand))


def read_kept(path: Path) -> KeptTable:
    """Read `data/split.keep.csv`; no places where the file is missing or has its header only.

    A file of an earlier version, with the columns `group` and `split`, is read too.

    Raises:
        DataError: the file has other columns, a line has a value that does not fit, or two lines contradict each other.
    """
    header, *lines = read_lines(path) or [list(COLUMNS)]
    if tuple(header) not in (COLUMNS, COLUMNS_BEFORE):
        raise DataError(f"{path}: found the columns {','.join(header) or 'none'}; expected {','.join(COLUMNS)}")
    places: dict[str, Place] = {}
    for number, cells in enumerate(lines, start=2):
        if cells:
            place = _parse(cells, header, f"{path}:{number}")
            key = place.source_sha256 or place.source
            places[key] = _agreed(places[key], place) if key in places else place
    return KeptTable(tuple(places.values()), bool(places) and tuple(header) == COLUMNS_BEFORE)


def write_kept(places: Iterable[Place], path: Path) -> None:
    """Write `data/split.keep.csv`, sorted by sha256."""
    ordered = sorted(places, key=attrgetter("source_sha256", "source"))
    lines = ((place.source_sha256, place.source, place.split, place.fold, place.dealt_by) for place in ordered)
    write_csv(path, [COLUMNS, *lines])


def refuse_contradiction(first: Place, second: Place) -> None:
    """Refuse two lines that put one recording on two sides.

    Raises:
        DataError: they do; the message names both lines.
    """
    if first.split != second.split or (None not in (first.fold, second.fold) and first.fold != second.fold):
        raise DataError(
            f"{second.line}: {second.source or second.source_sha256!r} is kept on {second.words}, and on {first.words} "
            f"in {first.line}; delete one of the lines"
        )


def _agreed(first: Place, second: Place) -> Place:
    refuse_contradiction(first, second)
    return second if first.fold is None else first


def _parse(cells: Sequence[str], header: Sequence[str], line: str) -> Place:
    if len(cells) != len(header):
        raise DataError(f"{line}: found {','.join(cells)}; expected a value for each of {','.join(header)}")
    if tuple(header) == COLUMNS_BEFORE:
        cells = ("", *cells, "", FROZEN)
    sha256, source, side, fold, dealt_by = cells
    if not sha256 and not source:
        raise DataError(f"{line}: names no recording; expected a value for source_sha256 or source")
    if side not in SIDES:
        raise DataError(f"{line}: {source or sha256!r} is pinned to {side!r}; expected one of {', '.join(SIDES)}")
    if fold and (not fold.isdecimal() or int(fold) >= MOST_FOLDS):
        raise DataError(f"{line}: found the fold {fold!r}; expected a number from 0 to {MOST_FOLDS - 1}, or nothing")
    return Place(sha256, source, side, int(fold) if fold else None, dealt_by, line)
