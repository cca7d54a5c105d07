"""The guard of the split: honest rows pass, and every planted leak is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.errors import DataError, LeakageError
from pipeline.base.leakage import exact_duplicates_across_sides, refuse_label_conflicts, refuse_leaks
from pipeline.base.manifest import Row

FRAMES_CSV = Path("data/frames.csv")


def frame(group: str, number: int = 0, split: str = "", *, label: str = "brick", kept: bool = True) -> Row:
    return Row(
        path=f"data/frames/{label}/{group}/{number:06}.jpg",
        label=label,
        source=f"data/raw/{label}/{group}.mp4",
        source_sha256=f"sha of {group}",
        group=f"{label}/{group}",
        kept=kept,
        split=split,
    )


def copy_of(parent: Row, split: str) -> Row:
    return replace(
        parent, path=f"{parent.path}.0_rotate_90.jpg", parent=parent.path, transform="rotate_90", split=split
    )


def honest_rows() -> list[Row]:
    frames = [
        frame(f"{side}{clip}", number, side)
        for side in ("train", "val", "test")
        for clip in range(2)
        for number in range(3)
    ]
    return frames + [copy_of(row, "train" if row.split == "train" else "unused") for row in frames]


def refusal(rows: list[Row], error: type[Exception] = LeakageError) -> str:
    with pytest.raises(error) as caught:
        refuse_leaks(rows)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_honest_split_passes() -> None:
    assert refuse_leaks(honest_rows()) is None  # does not raise
    assert refuse_leaks([row for row in honest_rows() if row.split != "val"]) is None


def test_a_leak_exits_3() -> None:
    assert LeakageError.exit_code == 3


def test_a_group_on_two_sides_is_named_and_the_others_counted() -> None:
    rows = [*honest_rows(), frame("test0", 9, "train"), frame("test1", 9, "train")]
    message = refusal(rows)
    assert "group 'brick/test0' is in train (data/raw/brick/test0.mp4) and test" in message
    assert "and 1 more like it" in message


@pytest.mark.parametrize(("here", "there"), [("train", "test"), ("train", "val"), ("val", "test")])
def test_no_two_sides_may_share_a_group(here: str, there: str) -> None:
    assert "group" in refusal([*honest_rows(), frame(f"{here}0", 9, there)])


def test_a_recording_under_two_names_on_two_sides_is_refused() -> None:
    renamed = replace(frame("other", 0, "test"), source_sha256="sha of train0")
    message = refusal([*honest_rows(), renamed])
    assert "sha of train0" in message
    assert "data/raw/brick/train0.mp4" in message
    assert "data/raw/brick/other.mp4" in message


def test_an_image_listed_on_two_sides_is_refused() -> None:
    listed_again = replace(frame("other", 0, "test"), path=frame("train0").path)
    assert "image 'data/frames/brick/train0/000000.jpg'" in refusal([*honest_rows(), listed_again])


@pytest.mark.parametrize("side", ["val", "test"])
def test_an_augmented_image_among_the_held_out_is_refused(side: str) -> None:
    rows = [*honest_rows(), copy_of(frame(f"{side}0", 0), side)]
    assert f"is in {side}, its parent" in refusal(rows)


def test_an_augmented_image_in_training_whose_parent_is_held_out_is_refused() -> None:
    stray = replace(copy_of(frame("test0"), "train"), group="of its own", source_sha256="")
    message = refusal([*honest_rows(), stray])
    assert "is in train, its parent 'data/frames/brick/test0/000000.jpg' in test" in message


def test_an_augmented_image_in_training_without_its_parent_is_refused() -> None:
    assert "in no row" in refusal([*honest_rows(), copy_of(frame("train0", 99), "train")])


def test_an_augmented_image_that_names_no_parent_is_refused() -> None:
    assert "its parent ''" in refusal([*honest_rows(), replace(copy_of(frame("train0"), "train"), parent="")])


@pytest.mark.parametrize("side", ["train", "test"])
def test_a_side_without_a_kept_frame_is_refused(side: str) -> None:
    rows = [replace(row, kept=False) if row.split == side and not row.parent else row for row in honest_rows()]
    assert f"no kept frame in {side}" in refusal(rows, DataError)


def test_unknown_hashes_are_not_taken_for_equal_ones() -> None:
    assert refuse_leaks([replace(row, source_sha256="") for row in honest_rows()]) is None  # does not raise


faults: dict[str, Callable[[list[Row], int], list[Row]]] = {
    "group": lambda rows, n: [*rows, replace(rows[n], path="x.jpg", source_sha256="", split=another_side(rows[n]))],
    "hash": lambda rows, n: [*rows, replace(rows[n], path="x.jpg", group="x", split=another_side(rows[n]))],
    "image": lambda rows, n: [*rows, replace(rows[n], group="x", source_sha256="", split=another_side(rows[n]))],
    "held-out copy": lambda rows, n: [*rows, copy_of(rows[n], "test")],
    "orphan": lambda rows, n: [*rows, copy_of(replace(rows[n], path="x.jpg", group="x", source_sha256=""), "train")],
}


def another_side(row: Row) -> str:
    return "train" if row.split == "test" else "test"


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["train", "val", "test"]), min_size=2, max_size=20), st.data())
def test_whatever_the_split_a_planted_leak_is_caught(sides: list[str], data: st.DataObject) -> None:
    sides = ["train", "test", *sides]
    rows = [frame(f"clip{clip}", number, side) for clip, side in enumerate(sides) for number in range(2)]
    rows = data.draw(st.permutations(rows))
    refuse_leaks(rows)
    fault = faults[data.draw(st.sampled_from(sorted(faults)))]
    with pytest.raises(LeakageError):
        refuse_leaks(fault(rows, data.draw(st.integers(0, len(rows) - 1))))


def test_recordings_on_two_sides_are_listed_with_their_sources() -> None:
    assert exact_duplicates_across_sides(honest_rows()) == []
    renamed = replace(frame("other", 0, "test"), source_sha256="sha of train0")
    assert exact_duplicates_across_sides([*honest_rows(), renamed]) == [
        {"sources": ["data/raw/brick/other.mp4", "data/raw/brick/train0.mp4"], "splits": ["train", "test"]}
    ]


def test_one_recording_under_two_labels_is_refused_with_both_names() -> None:
    twin = replace(frame("a", label="grass"), source_sha256="sha of a")
    with pytest.raises(DataError) as caught:
        refuse_label_conflicts([frame("a"), twin], FRAMES_CSV)
    assert "data/raw/brick/a.mp4 (label 'brick') and data/raw/grass/a.mp4 (label 'grass')" in str(caught.value)
    assert not isinstance(caught.value, LeakageError)


def test_one_group_under_two_labels_is_refused() -> None:
    with pytest.raises(DataError, match="are one group; expected one label"):
        refuse_label_conflicts([frame("a"), replace(frame("b", label="grass"), group="brick/a")], FRAMES_CSV)


def test_a_group_that_a_person_named_may_hold_several_labels_and_a_recording_may_not() -> None:
    rows = [frame("a"), replace(frame("b", label="grass"), group="brick/a")]
    refuse_label_conflicts(rows, FRAMES_CSV, {"brick/a"})
    with pytest.raises(DataError, match="are one group; expected one label"):
        refuse_label_conflicts(rows, FRAMES_CSV, {"another"})
    twin = replace(frame("a", label="grass"), source_sha256="sha of a", group="brick/a")
    with pytest.raises(DataError, match="hold the same bytes"):
        refuse_label_conflicts([frame("a"), twin], FRAMES_CSV, {"brick/a"})


def test_one_label_everywhere_is_no_conflict() -> None:
    same_bytes = replace(frame("b"), source_sha256="sha of a")
    assert refuse_label_conflicts([frame("a"), same_bytes], FRAMES_CSV) is None  # does not raise
