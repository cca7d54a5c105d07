"""Tables as CSV files. A spreadsheet that opens one runs nothing: no text cell of ours begins like a formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from pipeline.base.errors import DataError
from pipeline.base.files import replacing_file
from pipeline.base.project import missing
from runtime.system.regular_files import open_regular

# OWASP, "CSV injection": spreadsheets take a cell that begins so for a formula. An apostrophe before it makes it text.
_FORMULA_STARTS = frozenset("=+-@\t\r")
_APOSTROPHE = "'"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf", re.ASCII | re.IGNORECASE)


def write_csv(path: Path, lines: Iterable[Iterable[object]]) -> None:
    """Write a table whole or not at all; the first line is the header.

    A text that begins like a formula gets an apostrophe in front, which `table_lines` and `table_rows` remove.
    A file name may contain bytes that are not text. They are written as escapes.
    """
    with (
        replacing_file(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        csv.writer(_UnixLines(file), lineterminator="\r\n").writerows(map(_guarded_line, lines))


def table_lines(file: Iterable[str]) -> Iterator[list[str]]:
    """Yield the lines of a table as `write_csv` got them, the header first.

    Args:
        file: an open file, or its text in lines; line ends inside quotes have to be kept.

    Raises:
        csv.Error: the text is not CSV.
    """
    for cells in csv.reader(file, strict=True):
        # One search a line: a table may have a million lines, and few of them have such a cell.
        yield [_bare(cell) for cell in cells] if "\0'" in "\0" + "\0".join(cells) else cells


def table_rows(file: Iterable[str]) -> Iterator[dict[str, str]]:
    """Yield the rows of a table by the names of its header. A row that is too short lacks its last columns.

    Args:
        file: an open file, or its text in lines; line ends inside quotes have to be kept.

    Raises:
        csv.Error: the text is not CSV.
    """
    lines = table_lines(file)
    header = next(lines, [])
    for cells in lines:
        if cells:
            yield dict(zip(header, cells, strict=False))


def read_table(path: Path) -> Iterator[list[str]]:
    """Yield the lines of a table's file, the header first.

    Raises:
        DataError: the file is missing, is not UTF-8, or is not CSV.
    """
    try:
        with io.TextIOWrapper(open_regular(path), encoding="utf-8", newline="") as file:
            yield from table_lines(file)
    except FileNotFoundError as error:
        raise missing(path) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a UTF-8 CSV file ({error})") from error


def _guarded_line(cells: Iterable[object]) -> list[object]:
    return [f"'{cell}" if isinstance(cell, str) and _needs_guard(cell) else cell for cell in cells]


def _needs_guard(cell: str) -> bool:
    """Whether a text begins like a formula and is no number, or would be taken for a guarded text."""
    unguarded = cell.lstrip(_APOSTROPHE) if cell[:1] == _APOSTROPHE else cell
    return unguarded[:1] in _FORMULA_STARTS and not _NUMBER.fullmatch(cell)


def _bare(cell: str) -> str:
    return cell[1:] if cell[:1] == _APOSTROPHE and cell.lstrip(_APOSTROPHE)[:1] in _FORMULA_STARTS else cell


@dataclass(frozen=True)
class _UnixLines:
    """A file for `csv.writer` that ends each line in a bare newline.

    If the writer itself ended lines so, Python 3.11 would not quote a carriage return in a name, and could not read it.
    """

    file: TextIO

    def write(self, line: str) -> int:
        return self.file.write(line.removesuffix("\r\n") + "\n")
