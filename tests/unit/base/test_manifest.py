"""The manifest comes back as it was written, has one order, and is refused where it cannot be true."""

from __future__ import annotations

import gc
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.manifest import Row

FRAME = Row(
    path="data/frames/鳞片石墨/clip, one/000001.jpg",
    label="鳞片石墨",
    source='data/raw/鳞片石墨/clip "one".mp4',
    source_sha256="ab" * 32,
    group="鳞片石墨/clip",
    time_seconds=1.033333,
    kept=False,
    drop_reason="blurred\nand dark",
    width=1920,
    height=1080,
    sharpness=12.5,
    brightness=0.0,
    phash="00ff00ff00ff00ff",
    recorded_at="2024-05-03T14:22:07.120+02:00",
    camera="=Canon EOS 7D #0123",
    burst="burst=3C1D2E4F live=9A8B7C6D",
)
PHOTO = Row(path="data/frames/b/x.png", label="b", source="data/raw/b/x.png", source_sha256="", group="b/x")


def written(rows: list[Row], folder: Path) -> Path:
    path = folder / "frames.csv"
    manifest.write(rows, path)
    return path


def edited(folder: Path, before: str, after: str) -> Path:
    path = written([FRAME, PHOTO], folder)
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        manifest.read(path)
    assert str(path) in str(caught.value) or "leaves the project" in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_rows_come_back_as_they_went_in(tmp_path: Path) -> None:
    assert manifest.read(written([FRAME, PHOTO], tmp_path)) == [PHOTO, FRAME]


def test_the_columns_stand_in_the_order_of_the_contract(tmp_path: Path) -> None:
    header = written([PHOTO], tmp_path).read_text(encoding="utf-8").splitlines()[0]
    assert header == (
        "path,label,source,source_sha256,group,given_split,time_seconds,parent,transform,kept,drop_reason,"
        "width,height,sharpness,brightness,phash,sha256,recorded_at,camera,burst"
    )


def test_the_same_rows_in_another_order_give_the_same_bytes(tmp_path: Path) -> None:
    first = written([FRAME, PHOTO], tmp_path).read_bytes()
    assert written([PHOTO, FRAME], tmp_path).read_bytes() == first
    assert b"\r" not in first


def test_a_split_comes_back_with_its_sides(tmp_path: Path) -> None:
    rows = [replace(PHOTO, split="test"), replace(FRAME, split="unused")]
    manifest.write_split(rows, tmp_path / "split.csv")
    assert manifest.read_split(tmp_path / "split.csv") == rows


@pytest.mark.parametrize("split", ["", "Train", "validation"])
def test_an_unknown_split_is_refused(tmp_path: Path, split: str) -> None:
    manifest.write_split([replace(PHOTO, split=split)], tmp_path / "split.csv")
    with pytest.raises(DataError, match=r"split\.csv:2: split is .*; expected one of train, val, test, unused"):
        manifest.read_split(tmp_path / "split.csv")


def test_a_frame_manifest_is_no_split_and_the_other_way_round(tmp_path: Path) -> None:
    path = written([PHOTO], tmp_path)
    with pytest.raises(DataError, match="found the columns"):
        manifest.read_split(path)
    manifest.write_split([replace(PHOTO, split="test")], path)
    assert "found the columns" in refusal(path)


def test_no_rows_are_an_error_where_some_are_needed(tmp_path: Path) -> None:
    path = written([], tmp_path)
    assert "no rows" in refusal(path)
    assert manifest.read(path, empty_is_fine=True) == []
    manifest.write_split([], path)
    with pytest.raises(DataError, match="no rows"):
        manifest.read_split(path)


def test_a_missing_manifest_says_what_to_do(tmp_path: Path) -> None:
    assert refusal(tmp_path / "data" / "frames.csv").endswith("frames.csv: missing; run `pipe extract`")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("1.033333", "nan"),
        ("12.500000", "inf"),
        ("12.500000", "sharp"),
        (",false,", ",no,"),
        ("1920", "1920.5"),
        ("1920", ""),
        ("00ff00ff00ff00ff", "1.23457E+15"),
    ],
)
def test_a_value_that_does_not_fit_its_column_is_refused_with_its_line(tmp_path: Path, before: str, after: str) -> None:
    assert "frames.csv:3: a value does not fit its column" in refusal(edited(tmp_path, before, after))


@pytest.mark.parametrize("after", ["../secret.jpg", "/etc/passwd", "a\\b.jpg", ""])
def test_a_path_that_leaves_the_project_is_refused(tmp_path: Path, after: str) -> None:
    assert "leaves the project" in refusal(edited(tmp_path, "data/frames/b/x.png", after))


@pytest.mark.parametrize("before", ["png,b,", ",b/x,"])
def test_an_empty_label_or_group_is_refused(tmp_path: Path, before: str) -> None:
    after = before.replace(",b/x,", ",,").replace(",b,", ",,")
    assert "frames.csv:2: label or group is empty" in refusal(edited(tmp_path, before, after))


@pytest.mark.parametrize(("before", "after"), [("path,label", "label,path"), ("phash", "hash"), (",phash", "")])
def test_other_columns_are_refused(tmp_path: Path, before: str, after: str) -> None:
    assert "expected path,label,source" in refusal(edited(tmp_path, before, after))


def test_a_row_with_too_few_values_is_refused(tmp_path: Path) -> None:
    assert "frames.csv:3: found 19 values; expected 20" in refusal(edited(tmp_path, ",00ff00ff00ff00ff", ""))


def test_a_name_with_line_ends_comes_back(tmp_path: Path) -> None:
    row = replace(PHOTO, source="data/raw/b/Icon\r", group="b\n\r\nx")
    assert manifest.read(written([row], tmp_path)) == [row]


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b'path,"label\n'])
def test_a_file_that_is_not_csv_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "frames.csv"
    path.write_bytes(data)
    message = refusal(path)
    assert "not a UTF-8 CSV file" in message or "found the columns none" in message


def test_class_names_are_in_the_order_of_code_points() -> None:
    rows = [replace(PHOTO, label=label) for label in ("鳞片石墨", "b", "B", "b", "膨胀石墨")]
    assert manifest.class_names(rows) == ["B", "b", "膨胀石墨", "鳞片石墨"]


def test_a_placed_row_differs_in_group_and_side_alone() -> None:
    assert FRAME.placed("g", "val") == replace(FRAME, group="g", split="val")


@pytest.mark.parametrize("enabled", [True, False])
def test_the_search_for_cycles_is_as_it_was_after_a_pause(enabled: bool) -> None:
    (gc.enable if enabled else gc.disable)()
    try:
        with manifest.paused_garbage_collection():
            assert not gc.isenabled()
        assert gc.isenabled() == enabled
    finally:
        gc.enable()


texts = st.text(st.characters(codec="utf-8"), max_size=12)
names = st.text(st.characters(codec="utf-8", exclude_characters="/\\\0"), min_size=1, max_size=12)
numbers = st.none() | st.floats(-1e6, 1e6).map(lambda number: round(number, 6) + 0.0)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.builds(
            Row,
            path=names.filter(lambda name: name not in (".", "..")).map(lambda name: f"data/{name}"),
            label=names,
            source=texts,
            source_sha256=texts,
            group=names,
            time_seconds=numbers,
            drop_reason=texts,
            kept=st.booleans(),
            width=st.integers(0, 10**6),
            sharpness=numbers,
            split=st.sampled_from(manifest.SPLITS),
        ),
        min_size=1,
        max_size=8,
        unique_by=lambda row: row.path,
    )
)
def test_whatever_the_names_rows_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    path = tmp_path_factory.getbasetemp() / "split.csv"
    manifest.write_split(rows, path)
    rows_read = manifest.read_split(path)
    assert [row.path for row in rows_read] == sorted(row.path for row in rows)
    for row, original in zip(rows_read, sorted(rows, key=lambda row: row.path), strict=True):
        assert replace(row, time_seconds=None, sharpness=None) == replace(original, time_seconds=None, sharpness=None)
        assert (row.time_seconds is None) == (original.time_seconds is None)
        assert math.isclose(row.time_seconds or 0, original.time_seconds or 0, abs_tol=1e-6)


@pytest.mark.parametrize("time", ["2024-13-03T14:22:07", "yesterday", "14:22"])
def test_a_time_that_is_none_is_refused(tmp_path: Path, time: str) -> None:
    message = refusal(edited(tmp_path, "2024-05-03T14:22:07.120+02:00", time))
    assert "frames.csv:3: a value does not fit its column" in message


def test_only_a_split_says_why_recordings_share_a_group_and_in_which_fold_it_is(tmp_path: Path) -> None:
    placed = FRAME.placed("fish1", "train", "one burst", 3)
    path = tmp_path / "split.csv"
    manifest.write_split([placed], path)
    assert path.read_text(encoding="utf-8").splitlines()[0].endswith(",burst,split,group_reason,fold")
    assert manifest.read_split(path) == [placed]
    assert (placed.group, placed.split, placed.recorded_at) == ("fish1", "train", FRAME.recorded_at)


@pytest.mark.parametrize("fold", ["-1", "1.0", "a", " 1"])
def test_a_fold_that_is_no_number_is_refused(tmp_path: Path, fold: str) -> None:
    path = tmp_path / "split.csv"
    manifest.write_split([FRAME.placed("fish1", "train", "", 3)], path)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(",train,,3", f",train,,{fold}"), encoding="utf-8")
    with pytest.raises(DataError, match="is not the number of a fold"):
        manifest.read_split(path)
