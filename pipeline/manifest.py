"""The manifest: one row per image, sorted by path, the same bytes for the same input.

`data/frames.csv` and `data/augmented.csv` have the columns of `Row` up to `phash`; `data/split.csv` has `split` too.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DataError
from pipeline.files import replacing_file, safe_join

SPLITS = ("train", "val", "test", "unused")


@dataclass(frozen=True)
class Row:
    """One image of the data set."""

    path: str  # relative to the project, / between the parts
    label: str
    source: str  # the clip or photo it came from, relative to the project
    source_sha256: str
    group: str  # what a split may not divide
    given_split: str = ""  # train, val or test where the folders say so
    time_seconds: float | None = None  # presentation time in the clip; None for a photo
    parent: str = ""  # the frame that an augmented image came from
    transform: str = ""  # what was done to the parent
    kept: bool = True  # screening marks, it does not delete
    drop_reason: str = ""
    width: int = 0  # pixels
    height: int = 0
    sharpness: float | None = None  # variance of the Laplacian; None for an augmented image
    brightness: float | None = None  # mean luma, 0 to 255; None for an augmented image
    phash: str = ""  # 16 hex digits; empty for an augmented image
    split: str = ""  # train, val, test or unused; only in data/split.csv


SPLIT_COLUMNS = tuple(field.name for field in dataclasses.fields(Row))
COLUMNS = SPLIT_COLUMNS[:-1]


def write(rows: Iterable[Row], path: Path) -> None:
    """Write `data/frames.csv` or `data/augmented.csv`, sorted by path."""
    _write(rows, path, COLUMNS)


def write_split(rows: Iterable[Row], path: Path) -> None:
    """Write `data/split.csv`, sorted by path."""
    _write(rows, path, SPLIT_COLUMNS)


def read(path: Path, *, empty_is_fine: bool = False) -> list[Row]:
    """Read `data/frames.csv` or `data/augmented.csv`.

    Raises:
        DataError: the file is missing, has other columns or a bad value (file and line are named), or has no rows
            where some are needed.
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


def class_names(rows: Iterable[Row]) -> list[str]:
    """The classes in the order in which the model numbers them: sorted by code point."""
    return sorted({row.label for row in rows})


def _write(rows: Iterable[Row], path: Path, columns: Sequence[str]) -> None:
    table = [columns, *([_to_text(getattr(row, column)) for column in columns] for row in sorted(rows, key=_path))]
    lines = [_to_line(cells) for cells in table]
    with replacing_file(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8", newline="")


def _path(row: Row) -> str:
    return row.path


def _to_line(cells: Sequence[str]) -> str:
    # With a bare \n as its line end, Python 3.11 does not quote a carriage return in a name, and then cannot read it.
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n") + "\n"


def _to_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6f}"
    return str(value)


def _read(path: Path, columns: Sequence[str]) -> list[Row]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing; run the stage that writes it") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a UTF-8 CSV file ({error})") from error
    header = lines[0] if lines else []
    if header != list(columns):
        raise DataError(f"{path}: found the columns {','.join(header) or 'none'}; expected {','.join(columns)}")
    return [_parse(f"{path}:{number}", columns, values) for number, values in enumerate(lines[1:], start=2)]


def _parse(place: str, columns: Sequence[str], values: Sequence[str]) -> Row:
    if len(values) != len(columns):
        raise DataError(f"{place}: found {len(values)} values; expected {len(columns)}")
    cells = dict(zip(columns, values, strict=True))
    try:
        row = Row(
            **{name: cells[name] for name in _TEXT_COLUMNS if name in cells},
            time_seconds=_to_number(cells["time_seconds"]),
            kept={"true": True, "false": False}[cells["kept"]],
            width=int(cells["width"]),
            height=int(cells["height"]),
            sharpness=_to_number(cells["sharpness"]),
            brightness=_to_number(cells["brightness"]),
        )
    except (KeyError, ValueError) as error:
        raise DataError(f"{place}: a value does not fit its column ({error})") from error
    if "split" in cells and row.split not in SPLITS:
        raise DataError(f"{place}: split is {row.split!r}; expected one of {', '.join(SPLITS)}")
    if not row.label or not row.group:
        raise DataError(f"{place}: label or group is empty; expected a name")
    safe_join(Path(), row.path)
    return row


_TEXT_COLUMNS = (
    "path", "label", "source", "source_sha256", "group", "given_split",
    "parent", "transform", "drop_reason", "phash", "split",
)  # fmt: skip


def _to_number(text: str) -> float | None:
    if not text:
        return None
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number
