"""The manifest: one row per image, sorted by path, the same bytes for the same input.

`data/frames.csv` and `data/augmented.csv` have the columns of `Row` before `split`; `data/split.csv` has all of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

from pipeline.base.errors import DataError
from pipeline.base.project import check_inside
from pipeline.base.storage.csv_files import read_table, write_csv

SIDES = ("train", "val", "test")
UNUSED = "unused"  # on no side: rows beyond the numbers asked for, and the frames of a guard gap
SPLITS = (*SIDES, UNUSED)


@dataclass(frozen=True, slots=True)
class Row:
    """One image of the data set."""

    path: str  # relative to the project, / between the parts
    label: str
    source: str  # the clip or photo that the image came from, relative to the project
    source_sha256: str
    group: str  # what a split may not divide
    given_split: str = ""  # train, val or test where the folders say so
    time_seconds: float | None = None  # presentation time in the clip; None for a photo
    parent: str = ""  # the frame that an augmented image came from
    transform: str = ""  # how augmentation changed the parent
    kept: bool = True  # False where screening dropped the image; screening deletes no file
    drop_reason: str = ""
    width: int = 0  # pixels
    height: int = 0
    sharpness: float | None = None  # variance of the Laplacian; None for an augmented image
    brightness: float | None = None  # mean luma, 0 to 255; None for an augmented image
    phash: str = ""  # 16 hex digits; empty for an augmented image
    sha256: str = ""  # of the image's file, 64 hex digits; empty only in rows that no stage wrote
    recorded_at: str = ""  # ISO 8601, when the recording began; with its offset from UTC where the file states one
    camera: str = ""  # make and model, and the serial number after #
    burst: str = ""  # identifiers of a burst and of a Live Photo: burst=…, live=…
    split: str = ""  # train, val, test or unused; only in data/split.csv
    group_reason: str = ""  # why recordings share the group; only in data/split.csv
    fold: int | None = (
        None  # whose head judges the image, from 0; None where there are no folds; only in data/split.csv
    )

    @property
    def is_copy(self) -> bool:
        """Whether augmentation made the image."""
        return bool(self.parent or self.transform)

    def placed(self, group: str, split: str, group_reason: str = "", fold: int | None = None) -> Row:
        """The same row with another group and side. For a million rows `dataclasses.replace` would be too slow.

        Args:
            group: what the split does not divide.
            split: the side.
            group_reason: why recordings share the group.
            fold: the fold of the group.
        """
        values = list(_values(self))
        values[_GROUP], values[_SPLIT], values[_GROUP_REASON], values[_FOLD] = group, split, group_reason, fold
        return Row(*values)


SPLIT_COLUMNS = tuple(field.name for field in dataclasses.fields(Row))
_GROUP, _SPLIT = SPLIT_COLUMNS.index("group"), SPLIT_COLUMNS.index("split")
_GROUP_REASON, _RECORDED_AT = SPLIT_COLUMNS.index("group_reason"), SPLIT_COLUMNS.index("recorded_at")
COLUMNS = SPLIT_COLUMNS[:_SPLIT]
_TRUTH = {"true": True, "false": False}
_KEPT, _PHASH = SPLIT_COLUMNS.index("kept"), SPLIT_COLUMNS.index("phash")
_SHA256, _FOLD = SPLIT_COLUMNS.index("sha256"), SPLIT_COLUMNS.index("fold")
_NUMBER_COLUMNS = [SPLIT_COLUMNS.index(name) for name in ("time_seconds", "sharpness", "brightness")]
_PIXEL_COLUMNS = [SPLIT_COLUMNS.index(name) for name in ("width", "height")]
_SHARED_NAMES = ("label", "source", "source_sha256", "group", "transform", "recorded_at", "camera", "burst")
_SHARED_COLUMNS = [SPLIT_COLUMNS.index(name) for name in _SHARED_NAMES]
_values = attrgetter(*SPLIT_COLUMNS)
_HEX, _SHA256_HEX = re.compile("[0-9a-f]{16}"), re.compile("[0-9a-f]{64}")


def write(rows: Iterable[Row], path: Path) -> None:
    """Write `data/frames.csv` or `data/augmented.csv`, sorted by path."""
    _write(rows, path, COLUMNS)


def write_split(rows: Iterable[Row], path: Path) -> None:
    """Write `data/split.csv`, sorted by path."""
    _write(rows, path, SPLIT_COLUMNS)


def read(path: Path, *, empty_is_fine: bool = False) -> list[Row]:
    """Read `data/frames.csv` or `data/augmented.csv`.

    Raises:
        DataError: the file is missing, or has other columns, a bad value or no rows (unless `empty_is_fine`). The
            message names the file, and the line of a bad value.
    """
    rows = _read(path, COLUMNS)
    if not rows and not empty_is_fine:
        raise DataError(f"{path}: no rows; expected at least one image")
    return rows


def read_split(path: Path) -> list[Row]:
    """Read `data/split.csv`.

    Raises:
        DataError: as `read`, or a row has no split.
    """
    rows = _read(path, SPLIT_COLUMNS)
    if not rows:
        raise DataError(f"{path}: no rows; expected at least one image")
    return rows


@contextlib.contextmanager
def paused_garbage_collection() -> Iterator[None]:
    """Pause Python's search for reference cycles: rows form none, and it would search a million of them repeatedly."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def class_names(rows: Iterable[Row]) -> list[str]:
    """The class names in the order of the model's outputs: sorted by code point."""
    return sorted({row.label for row in rows})


def _write(rows: Iterable[Row], path: Path, columns: Sequence[str]) -> None:
    ordered = sorted(rows, key=attrgetter("path"))
    write_csv(path, chain([columns], (_to_cells(row, len(columns)) for row in ordered)))


def _to_cells(row: Row, n_columns: int) -> list[object]:
    cells: list[object] = list(_values(row)[:n_columns])
    for column in _NUMBER_COLUMNS:
        value = cells[column]
        cells[column] = "" if value is None else f"{value:.6f}"
    cells[_KEPT] = "true" if row.kept else "false"
    return cells


def _read(path: Path, columns: Sequence[str]) -> list[Row]:
    lines = read_table(path)
    header = next(lines, [])
    if header != list(columns):
        raise DataError(f"{path}: found the columns {','.join(header) or 'none'}; expected {','.join(columns)}")
    shared: dict[str, str] = {}  # one string object for a name that a thousand rows have
    with paused_garbage_collection():
        return [_parse(path, line, cells, len(columns), shared) for line, cells in enumerate(lines, start=2)]


def _parse(path: Path, line: int, cells: list[str], n_columns: int, shared: dict[str, str]) -> Row:
    if len(cells) != n_columns:
        raise DataError(f"{path}:{line}: found {len(cells)} values; expected {n_columns}")
    values: list[Any] = cells
    try:
        for column in _SHARED_COLUMNS:
            values[column] = shared.setdefault(cells[column], cells[column])
        for column in _NUMBER_COLUMNS:
            values[column] = _to_number(cells[column]) if cells[column] else None
        for column in _PIXEL_COLUMNS:
            values[column] = int(cells[column])
        values[_KEPT] = _TRUTH[cells[_KEPT]]
        if n_columns > _FOLD:
            values[_FOLD] = _to_fold(cells[_FOLD])
        _check_hash(cells[_PHASH])
        _check_sha256(cells[_SHA256])
        _check_time(cells[_RECORDED_AT])
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}:{line}: a value does not fit its column ({error})") from error
    row = Row(*values)
    if n_columns > _SPLIT and row.split not in SPLITS:
        raise DataError(f"{path}:{line}: split is {row.split!r}; expected one of {', '.join(SPLITS)}")
    if not row.label or not row.group:
        raise DataError(f"{path}:{line}: label or group is empty; expected a name")
    check_inside(row.path)
    return row


def _check_sha256(text: str) -> None:
    if text and not _SHA256_HEX.fullmatch(text):
        raise ValueError(f"{text} is not a sha256 of 64 hex digits")


def _check_hash(text: str) -> None:
    if text and not _HEX.fullmatch(text):  # spreadsheets turn some hashes into numbers
        raise ValueError(f"{text} is not a phash of 16 hex digits")


def _check_time(text: str) -> None:
    if text:
        datetime.fromisoformat(text)


def _to_fold(text: str) -> int | None:
    if text and not text.isdecimal():
        raise ValueError(f"{text} is not the number of a fold")
    return int(text) if text else None


def _to_number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value
