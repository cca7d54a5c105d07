"""Sessions: one is held out as a whole, groups may hold several labels, and the receipt says what that costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import pytest

from pipeline.base import manifest
from pipeline.base.errors import DataError, ParamsError
from pipeline.base.files import read_json
from pipeline.base.leakage import read_split_without_leaks
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.split.params import SplitParams
from pipeline.split.stage import split
from tests.support.small_project import set_params

LABELS = ("brick", "grass")


def frames_of(n_clips: int, labels: Sequence[str] = LABELS) -> list[Row]:
    return [
        Row(
            path=f"data/frames/{label}/{clip}.mp4/{number:06}.jpg",
            label=label,
            source=f"data/raw/{label}/{clip}.mp4",
            source_sha256=f"{label} {clip}",
            group=f"data/raw/{label}/{clip}.mp4",
            time_seconds=float(number),
        )
        for label in labels
        for clip in range(n_clips)
        for number in range(3)
    ]


def split_rows(project: Project, frames: Sequence[Row], lines: Sequence[str], **changes: object) -> list[Row]:
    """The rows of a split; `lines` are those of data/groups.csv."""
    manifest.write(frames, project.frames_csv)
    manifest.write([], project.augmented_csv)
    project.groups_csv.write_text("\n".join(lines) + "\n", encoding="utf-8")
    near_duplicates = {"search": False, "hash_bits": 4, "correlation": 0.7}
    set_params(project, split={"near_duplicates": near_duplicates, **changes})
    split(read_section(project.params_yaml, "split", SplitParams), project)
    return read_split_without_leaks(project)


def refusal(project: Project, frames: Sequence[Row], lines: Sequence[str], **changes: object) -> str:
    with pytest.raises(DataError) as caught:
        split_rows(project, frames, lines, **changes)
    assert not project.split_csv.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def days(n_clips: int, labels: Sequence[str] = LABELS) -> list[str]:
    """Clips 0 to 2 of each class are of day 1, the others of day 2."""
    of_clips = [
        f"data/raw/{label}/{clip}.mp4,,day {1 if clip < 3 else 2}" for label in labels for clip in range(n_clips)
    ]
    return ["source,group,session", *of_clips]


def sides_of_groups(rows: Sequence[Row]) -> dict[str, set[str]]:
    sides: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        sides[row.group].add(row.split)
    return sides


def test_a_session_is_tested_on_as_a_whole_and_nothing_else_is(project: Project) -> None:
    rows = split_rows(project, frames_of(9), days(9), hold_out={"session": "day 1"})
    assert all((row.split == "test") == (int(row.source[-5]) < 3) for row in rows)
    assert {(row.label, row.split) for row in rows} == {(a, b) for a in LABELS for b in ("train", "val", "test")}
    receipt = read_json(project.split_json)
    assert receipt["asked"]["hold_out"] == {"session": "day 1"}
    assert receipt["sessions"] == {"day 1": {"test": 6}, "day 2": {"train": 10, "val": 2}}
    assert receipt["balance"] == {
        "groups_of_several_labels": 0, "test_share_asked": None, "test_share": {"brick": 0.333333, "grass": 0.333333},
    }  # fmt: skip
    assert receipt["optimistic"] is None


def test_another_session_is_another_test_side(project: Project) -> None:
    tested = [
        {
            row.source
            for row in split_rows(project, frames_of(9), days(9), hold_out={"session": day})
            if row.split == "test"
        }
        for day in ("day 1", "day 2")
    ]
    assert not tested[0] & tested[1]
    assert len(tested[0] | tested[1]) == 18


def test_a_session_that_lacks_a_class_is_held_out_and_the_imbalance_is_said(project: Project) -> None:
    lines = [line for line in days(9) if "grass" not in line or not line.endswith("day 1")]
    split_rows(project, frames_of(9), lines, hold_out={"session": "day 1"})
    receipt = read_json(project.split_json)
    assert receipt["balance"]["test_share"] == {"brick": 0.333333, "grass": 0.0}
    report = split(read_section(project.params_yaml, "split", SplitParams), project)
    assert "; test has 0% to 33% of the frames of a class; " in report.headline


def test_an_unknown_session_is_refused_with_the_nearest(project: Project) -> None:
    message = refusal(project, frames_of(9), days(9), hold_out={"session": "day1"})
    assert "data/groups.csv: no frame is of the session 'day1'" in message
    assert "such as 'day 1'" in message
    lines = ["source,group", "data/raw/brick/0.mp4,one"]
    assert "it names no session" in refusal(project, frames_of(9), lines, hold_out={"session": "day 1"})


def test_a_group_in_two_sessions_is_refused_where_one_is_held_out(project: Project) -> None:
    lines = [*days(9)[:-1], "data/raw/grass/8.mp4,one,day 2"]
    lines[1] = "data/raw/brick/0.mp4,one,day 1"
    message = refusal(project, frames_of(9), lines, hold_out={"session": "day 1"})
    assert (
        "data/raw/brick/0.mp4 is of the session 'day 1', and data/raw/grass/8.mp4, which is in the same group"
        in message
    )
    assert split_rows(project, frames_of(9), lines, hold_out=None)


def test_copies_of_a_held_out_clip_in_another_session_are_refused(project: Project) -> None:
    frames = frames_of(9)
    frames = [replace(row, source_sha256="brick 0") if row.source.endswith("brick/8.mp4") else row for row in frames]
    assert "data/raw/brick/8.mp4" in refusal(project, frames, days(9), hold_out={"session": "day 1"})


def test_a_class_that_was_recorded_in_the_held_out_session_alone_is_refused(project: Project) -> None:
    frames = [row for row in frames_of(9) if row.label == "brick" or int(row.source[-5]) < 3]
    lines = [line for line in days(9) if "grass" not in line or line.endswith("day 1")]
    message = refusal(project, frames, lines, hold_out={"session": "day 1"})
    assert (
        "too few clips or photos outside the held-out session with kept frames: 'grass' has 0 (film 2 more)" in message
    )


@pytest.mark.parametrize(
    "changes", [{"protocol": "random"}, {"folds": 3}, {"counts": {"train": 1, "val": 1, "test": 1}}]
)
def test_what_settles_the_test_side_in_another_way_excludes_it(project: Project, changes: dict[str, object]) -> None:
    with pytest.raises(ParamsError, match="hold_out"):
        split_rows(project, frames_of(9), days(9), hold_out={"session": "day 1"}, **changes)


def test_a_split_with_a_held_out_session_keeps_no_place(project: Project) -> None:
    split_rows(project, frames_of(9), days(9), hold_out={"session": "day 1"}, keep=True)
    assert not project.split_keep_csv.exists()


def test_a_group_of_several_labels_is_on_one_side_and_the_loss_of_balance_is_said(project: Project) -> None:
    lines = ["source,group"] + [
        f"data/raw/{label}/{clip}.mp4,part {clip % 5}" for label in LABELS for clip in range(20)
    ]
    rows = split_rows(project, frames_of(20), lines)
    sides = sides_of_groups(rows)
    assert len(sides) == 5
    assert all(len(of_group) == 1 for of_group in sides.values())
    assert {(row.label, row.split) for row in rows} == {(a, b) for a in LABELS for b in ("train", "val", "test")}
    balance = read_json(project.split_json)["balance"]
    assert balance == {
        "groups_of_several_labels": 5, "test_share_asked": 0.2, "test_share": {"brick": 0.2, "grass": 0.2},
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes", [{"folds": 3}, {"counts": {"train": 1, "val": 1, "test": 1}}, {"protocol": "random"}]
)
def test_groups_of_several_labels_work_in_every_way_of_dividing(project: Project, changes: dict[str, object]) -> None:
    lines = ["source,group"] + [
        f"data/raw/{label}/{clip}.mp4,part {clip % 6}" for label in LABELS for clip in range(12)
    ]
    rows = split_rows(project, frames_of(12), lines, **changes)
    sided = [row for row in rows if row.split != "unused"]
    assert {(row.label, row.split) for row in sided} == {(a, b) for a in LABELS for b in ("train", "val", "test")}


def test_too_few_groups_for_all_their_labels_are_refused(project: Project) -> None:
    lines = ["source,group"] + [f"data/raw/{label}/{clip}.mp4,part {clip % 2}" for label in LABELS for clip in range(9)]
    assert "'brick' has 2 (film 1 more), 'grass' has 2 (film 1 more)" in refusal(project, frames_of(9), lines)


def test_a_pattern_that_joins_two_classes_is_refused_and_says_how_to_mean_it(project: Project) -> None:
    lines = ["source,group", "data/raw/brick/0.mp4,one"]
    message = refusal(project, frames_of(9), lines, group_pattern=r"^(\d)")
    assert "name the group in data/groups.csv if it holds several" in message
