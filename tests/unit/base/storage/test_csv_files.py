"""Tables: no cell of ours runs in a spreadsheet, and every text comes back as it was."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import DataError
from pipeline.base.storage.csv_files import read_table, table_lines, table_rows, write_csv

FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("x")']
HARMLESS = ["-1", "+2.5", "-1e-3", "flake", "'", "''", "'flake", "", "a=b", "砾石"]


def stored(path: Path) -> list[list[str]]:
    """The cells as a spreadsheet sees them."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def lines_of(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(table_lines(file))


def test_a_text_that_begins_like_a_formula_is_text_in_a_spreadsheet(tmp_path: Path) -> None:
    write_csv(tmp_path / "table.csv", [["name"], *([text] for text in (*FORMULAS, *HARMLESS))])
    cells = [line[0] if line else "" for line in stored(tmp_path / "table.csv")[1:]]
    assert cells == [f"'{text}" for text in FORMULAS] + HARMLESS
    assert lines_of(tmp_path / "table.csv")[1:] == [[text] for text in (*FORMULAS, *HARMLESS)]


@given(st.lists(st.text(alphabet="'=+-@\t\r\n,1ae\"", max_size=5), min_size=2, max_size=4))
def test_every_text_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, cells: list[str]) -> None:
    path = tmp_path_factory.mktemp("table") / "table.csv"
    write_csv(path, [cells])
    assert lines_of(path) == [cells]
    assert not any(cell[:1] in set("=@\t\r") for cell in stored(path)[0] if cell)


def test_a_number_with_a_blank_or_line_end_before_it_is_a_text(tmp_path: Path) -> None:
    texts = ["\r1", "\t1", "-1_0", "+1 ", "-٣"]  # Python takes each for a number
    write_csv(tmp_path / "table.csv", [texts])
    assert stored(tmp_path / "table.csv")[0] == [f"'{text}" for text in texts]
    assert lines_of(tmp_path / "table.csv") == [texts]


def test_numbers_are_written_as_they_are(tmp_path: Path) -> None:
    write_csv(tmp_path / "table.csv", [["a", "b"], [-1, -0.5]])
    assert stored(tmp_path / "table.csv")[1] == ["-1", "-0.5"]


def test_rows_have_the_names_of_the_header() -> None:
    assert list(table_rows(io.StringIO("path,label\r\n'=a,b\r\n\r\nc\r\n"))) == [
        {"path": "=a", "label": "b"},
        {"path": "c"},
    ]


def test_a_table_that_is_missing_or_no_text_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"split.csv: missing; run `pipe split`"):
        list(read_table(tmp_path / "data" / "split.csv"))
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"bytes.csv: not a UTF-8 CSV file"):
        list(read_table(tmp_path / "bytes.csv"))


def test_a_table_keeps_names_that_are_no_text_as_escapes_and_ends_lines_in_a_newline(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [["path", "n"], ["clip\udcff.mp4", 1], ["a\rb", 2]])
    assert (tmp_path / "a.csv").read_bytes() == b'path,n\nclip\\udcff.mp4,1\n"a\rb",2\n'
