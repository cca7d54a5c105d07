"""`data/split.keep.csv`: what is written comes back, people may write lines, and bad lines are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.base.errors import DataError
from pipeline.split.kept.table import FROZEN, KeptTable, Place, read_kept, write_kept

HEADER = "source_sha256,source,split,fold,dealt_by"


def table(folder: Path, *lines: str) -> Path:
    path = folder / "keep.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_places_come_back_as_they_went_in_sorted_by_sha256(tmp_path: Path) -> None:
    places = (
        Place("b", "data/raw/鳞片/1.mp4", "val", 4, "ratio 8:2 val 0.2 seed 0"),
        Place("a", 'data/raw/x, "y".mp4', "train", 0),
        Place("c", "=line\rend", "test"),
    )
    write_kept(places, tmp_path / "keep.csv")
    assert read_kept(tmp_path / "keep.csv") == KeptTable((places[1], places[0], places[2]))
    text = (tmp_path / "keep.csv").read_text(encoding="utf-8")
    assert text.startswith(f'{HEADER}\na,"data/raw/x, ""y"".mp4",train,0,\n')


def test_no_file_and_a_header_alone_keep_nothing(tmp_path: Path) -> None:
    assert read_kept(tmp_path / "none.csv") == KeptTable()
    assert read_kept(table(tmp_path, HEADER)) == KeptTable()
    assert read_kept(table(tmp_path, "group,split")) == KeptTable()
    (tmp_path / "keep.csv").write_bytes(b"")
    assert read_kept(tmp_path / "keep.csv") == KeptTable()


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    kept = read_kept(table(tmp_path, "group,split", "stone,test"))
    assert kept == KeptTable((Place("", "stone", "test", None, FROZEN),), has_columns_of_before=True)
    assert kept.by_hand().places == ()


def test_a_person_names_a_recording_and_its_side_alone(tmp_path: Path) -> None:
    kept = read_kept(table(tmp_path, HEADER, ",data/raw/a/1.mp4,test,,", "s,data/raw/a/2.mp4,train,1,ratio"))
    assert kept.by_hand().places == (Place("", "data/raw/a/1.mp4", "test"),)


def test_a_line_that_stands_twice_counts_once_as_after_a_merge_in_git(tmp_path: Path) -> None:
    kept = read_kept(table(tmp_path, HEADER, "s,old name,test,,", "s,new name,test,2,r", "s,old name,test,,"))
    assert [(place.split, place.fold) for place in kept.places] == [("test", 2)]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["path,side"], "keep.csv: found the columns path,side; expected source_sha256,source,split,fold,dealt_by"),
        ([HEADER, "s,a,unused,,"], "keep.csv:2: 'a' is pinned to 'unused'; expected one of train, val, test"),
        ([HEADER, "s,,Train,,"], "keep.csv:2: 's' is pinned to 'Train'"),
        ([HEADER, "s,a,train"], "keep.csv:2: found s,a,train; expected a value for each of source_sha256,source,split"),
        ([HEADER, ",,train,,"], "keep.csv:2: names no recording; expected a value for source_sha256 or source"),
        ([HEADER, "s,a,train,5,"], "keep.csv:2: found the fold '5'; expected a number from 0 to 4, or nothing"),
        ([HEADER, "s,a,train,-1,"], "found the fold '-1'"),
        ([HEADER, "s,a,train,0,", "s,b,test,0,"], "keep.csv:3: 'b' is kept on test, fold 0, and on train, fold 0 in "),
        ([HEADER, "s,a,train,0,", "s,a,train,1,"], "kept on train, fold 1, and on train, fold 0 in "),
        (["group,split", "a,train", "a,test"], "keep.csv:2; delete one of the lines"),
        (["group,split", "a"], "keep.csv:2: found a; expected a value for each of group,split"),
    ],
)  # fmt: skip
def test_lines_that_do_not_fit_are_named(tmp_path: Path, lines: list[str], expected: str) -> None:
    with pytest.raises(DataError) as caught:
        read_kept(table(tmp_path, *lines))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_csv_is_named(tmp_path: Path) -> None:
    (tmp_path / "keep.csv").write_bytes(b"\xff\xfe,")
    with pytest.raises(DataError, match=r"keep\.csv: not a UTF-8 CSV file"):
        read_kept(tmp_path / "keep.csv")
