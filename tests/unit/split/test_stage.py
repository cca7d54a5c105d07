"""The split: whole groups, every class on every side, and a receipt; refused where the data do not allow it."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base import manifest
from pipeline.base.errors import DataError, LeakageError
from pipeline.base.files import read_json
from pipeline.base.leakage import refuse_leaks
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.split import assignment, stage
from pipeline.split.folds import no_folds
from pipeline.split.params import SplitParams
from pipeline.split.stage import split
from tests.support.command import ROOT
from tests.support.small_project import without_search

DEFAULTS = without_search(read_section(ROOT / "params.yaml", "split", SplitParams))
Clips = dict[str, list[int]]  # class -> kept frames of each of its clips


@pytest.fixture
def params(project: Project) -> SplitParams:
    return without_search(read_section(project.params_yaml, "split", SplitParams))


def frames_of(clips: Clips) -> list[Row]:
    return [
        Row(
            path=f"data/frames/{label}/clip{clip}/{number:06}.jpg",
            label=label,
            source=f"data/raw/{label}/clip{clip}.mp4",
            source_sha256=f"{label} {clip}",
            group=f"{label}/clip{clip}",
            time_seconds=float(number),
            width=4,
            height=3,
        )
        for label, sizes in clips.items()
        for clip, size in enumerate(sizes)
        for number in range(size)
    ]


def copies_of(frames: Sequence[Row]) -> list[Row]:
    return [
        replace(frame, path=f"data/augmented/{frame.path}.0_rotate_90.jpg", parent=frame.path, transform="rotate_90")
        for frame in frames
        if frame.kept
    ]


def write(project: Project, frames: Sequence[Row], copies: Sequence[Row] = ()) -> None:
    manifest.write(frames, project.frames_csv)
    manifest.write(copies, project.augmented_csv)


def sides_of(rows: Sequence[Row]) -> dict[str, set[str]]:
    sides = defaultdict(set)
    for row in rows:
        if not row.parent:
            sides[row.group].add(row.split)
    return dict(sides)


def refusal(params: SplitParams, project: Project) -> str:
    with pytest.raises(DataError) as caught:
        split(params, project)
    assert not project.split_csv.exists()
    assert not project.split_json.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


DEMO: Clips = {"brick": [14] * 5, "grass": [14] * 5, "砾石": [14] * 5}


def test_whole_clips_go_to_one_side_and_every_class_is_on_each(project: Project, params: SplitParams) -> None:
    frames = frames_of(DEMO)
    write(project, frames, copies_of(frames))
    report = split(params, project)
    rows = manifest.read_split(project.split_csv)
    assert report.headline == "frames (groups): train 126 (9), val 42 (3), test 42 (3); data/split.csv"
    assert all(len(sides) == 1 for sides in sides_of(rows).values())
    assert {(row.label, row.split) for row in rows if not row.parent} == {
        (label, side) for label in DEMO for side in ("train", "val", "test")
    }
    assert len(rows) == 2 * len(frames)
    refuse_leaks(rows)


def test_augmented_rows_follow_their_parent_and_are_unused_when_it_is_held_out(
    project: Project, params: SplitParams
) -> None:
    frames = frames_of(DEMO)
    write(project, frames, copies_of(frames))
    split(params, project)
    rows = manifest.read_split(project.split_csv)
    side = {row.path: row.split for row in rows if not row.parent}
    copies = [row for row in rows if row.parent]
    assert {row.split for row in copies} == {"train", "unused"}
    assert all((row.split == "train") == (side[row.parent] == "train") for row in copies)


def test_the_receipt(project: Project, params: SplitParams) -> None:
    frames = frames_of(DEMO)
    frames[0] = replace(frames[0], kept=False, drop_reason="blurred")
    write(project, frames, copies_of(frames))
    split(params.model_copy(update={"caveat": "one photograph per class"}), project)
    receipt = read_json(project.split_json)
    rows = manifest.read_split(project.split_csv)
    assert receipt["protocol"] == "grouped"
    assert receipt["optimistic"] == "one photograph per class"
    asked = receipt["asked"]
    assert (asked["ratio"], asked["val"], asked["rounding"], asked["seed"]) == ("8:2", 0.2, "nearest", 0)
    assert receipt["pins"] == {"pinned": 0, "new": 15, "gone": 0}
    assert sum(receipt["achieved_ratio"].values()) == pytest.approx(1, abs=1e-5)
    assert sum(len(groups) for groups in receipt["groups"].values()) == 15
    counts = receipt["counts"]
    assert list(counts) == ["train", "val", "test"]
    assert list(counts["train"]) == ["brick", "grass", "砾石"]
    assert sum(counts[side]["brick"]["frames"] for side in counts) == 69
    assert sum(counts[side]["brick"]["dropped"] for side in counts) == 1
    assert sum(counts[side]["brick"]["groups"] for side in counts) == 5
    assert counts["train"]["grass"] == {"frames": 42, "dropped": 0, "augmented": 42, "groups": 3}
    assert counts["test"]["grass"] == {"frames": 14, "dropped": 0, "augmented": 0, "groups": 1}
    assert receipt["augmented_unused"] == sum(row.split == "unused" for row in rows)
    leakage = receipt["leakage"]
    assert leakage["exact_duplicates"] == leakage["label_conflicts"] == receipt["merged_groups"] == []
    for name in ("near_duplicates", "same_clip_within_seconds"):
        assert leakage[name] is None
        assert leakage[f"{name}_reason"]


def test_two_class_names_that_read_alike_are_refused(project: Project, params: SplitParams) -> None:
    write(project, frames_of({"brick": [3] * 5, "Brick": [3] * 5}))
    assert "frames.csv: the classes 'Brick' and 'brick' differ only in case, width, blanks" in refusal(params, project)


def test_without_a_caveat_nothing_is_called_optimistic(project: Project, params: SplitParams) -> None:
    write(project, frames_of(DEMO))
    split(params, project)
    assert read_json(project.split_json)["optimistic"] is None


def test_without_val_two_sides_share_everything(project: Project, params: SplitParams) -> None:
    write(project, frames_of({"a": [5, 5], "b": [5, 5]}))
    report = split(params.model_copy(update={"val": None}), project)
    assert {side: len(groups) for side, groups in report.groups.items()} == {"train": 2, "test": 2}
    assert list(read_json(project.split_json)["counts"]) == ["train", "test"]


def test_dropped_frames_get_their_groups_side(project: Project, params: SplitParams) -> None:
    frames = frames_of(DEMO)
    frames = [replace(frame, kept=frame.path[-5] != "1", drop_reason="dark") for frame in frames]
    write(project, frames, copies_of(frames))
    split(params, project)
    rows = manifest.read_split(project.split_csv)
    assert all(len(sides) == 1 for sides in sides_of(rows).values())
    assert {row.split for row in rows if not row.kept} == {"train", "val", "test"}


def test_exact_copies_of_a_clip_are_one_group(project: Project, params: SplitParams) -> None:
    frames = [
        replace(frame, source_sha256="brick 0") if frame.group == "brick/clip4" else frame for frame in frames_of(DEMO)
    ]
    write(project, frames, copies_of(frames))
    split(params, project)
    rows = manifest.read_split(project.split_csv)
    assert {row.group for row in rows if row.source_sha256 == "brick 0"} == {"brick/clip0"}
    assert len(sides_of(rows)) == 14
    assert read_json(project.split_json)["merged_groups"] == [["brick/clip0", "brick/clip4"]]


def test_too_few_clips_say_what_to_film(project: Project, params: SplitParams) -> None:
    write(project, frames_of({"brick": [9], "grass": [9, 9, 9], "砾石": [9, 9]}))
    message = refusal(params, project)
    assert "'brick' has 1 (film 2 more), '砾石' has 2 (film 1 more)" in message
    assert "every class needs 3, one each for train, val, test; with split.val: null two are enough" in message
    assert "grass" not in message


def test_too_few_clips_without_val(project: Project, params: SplitParams) -> None:
    write(project, frames_of({"brick": [9], "grass": [9, 9]}))
    message = refusal(params.model_copy(update={"val": None}), project)
    assert "'brick' has 1 (film 1 more); every class needs 2, one each for train, test" in message
    assert "null" not in message


def test_where_all_are_clips_the_way_that_cuts_them_is_named(project: Project, params: SplitParams) -> None:
    frames = frames_of({"brick": [9], "grass": [9]})
    write(project, frames)
    assert "; or split.protocol: blocks, which cuts every clip into stretches of time" in refusal(params, project)
    write(project, [replace(frame, time_seconds=None) if frame.label == "grass" else frame for frame in frames])
    assert "blocks" not in refusal(params, project)  # it takes no photos


def test_a_copied_clip_does_not_count_twice(project: Project, params: SplitParams) -> None:
    frames = frames_of({"brick": [9, 9, 9], "grass": [9, 9, 9]})
    write(project, [replace(frame, source_sha256="one") if frame.label == "brick" else frame for frame in frames])
    assert "'brick' has 1 (film 2 more)" in refusal(params, project)


def test_a_clip_without_kept_frames_does_not_count(project: Project, params: SplitParams) -> None:
    frames = frames_of({"brick": [9, 9, 9], "grass": [9, 9, 9]})
    write(project, [replace(frame, kept=frame.group != "brick/clip1") for frame in frames])
    assert "'brick' has 2 (film 1 more)" in refusal(params, project)


def test_one_class_only_is_refused(project: Project, params: SplitParams) -> None:
    write(project, frames_of({"brick": [9] * 5}))
    assert "one class only, 'brick'" in refusal(params, project)


def test_one_clip_under_two_labels_is_refused(project: Project, params: SplitParams) -> None:
    frames = frames_of(DEMO)
    frames[-1] = replace(frames[-1], source_sha256="brick 0")
    write(project, frames)
    assert "data/raw/brick/clip0.mp4 (label 'brick') and data/raw/砾石/clip4.mp4" in refusal(params, project)


def test_a_group_with_two_labels_is_refused(project: Project, params: SplitParams) -> None:
    frames = frames_of(DEMO)
    frames[-1] = replace(frames[-1], group="brick/clip0")
    write(project, frames)
    assert "are one group" in refusal(params, project)


@pytest.mark.parametrize(
    "change", [{"parent": "data/frames/gone.jpg"}, {"source_sha256": "re-filmed"}, {"label": "grass"}]
)
def test_stale_copies_are_refused(project: Project, params: SplitParams, change: dict[str, Any]) -> None:
    frames = frames_of(DEMO)
    copies = copies_of(frames)
    write(project, frames, [replace(copies[0], **change), *copies[1:]])
    assert "run `pipe augment` again" in refusal(params, project)


def test_copies_of_a_frame_that_has_since_been_dropped_are_refused(project: Project, params: SplitParams) -> None:
    frames = frames_of(DEMO)
    write(project, [replace(frames[0], kept=False), *frames[1:]], copies_of(frames))
    assert "run `pipe augment` again" in refusal(params, project)


def test_missing_and_empty_manifests_are_refused(project: Project, params: SplitParams) -> None:
    assert "frames.csv: missing" in refusal(params, project)
    write(project, [])
    assert "frames.csv: no rows" in refusal(params, project)
    manifest.write(frames_of(DEMO), project.frames_csv)
    project.augmented_csv.unlink()
    assert "augmented.csv: missing" in refusal(params, project)


def test_a_leak_writes_the_receipt_and_no_split(
    project: Project, params: SplitParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(frames_by_group: dict[str, int], *_: object, **__: object) -> dict[str, str]:
        return dict(zip(frames_by_group, ["train", "test", "val"] * 9, strict=False))

    frames = frames_of(DEMO)
    write(project, frames)
    split(params, project)
    twins = [replace(frame, source_sha256="one") if frame.label == "brick" else frame for frame in frames]
    write(project, twins)
    monkeypatch.setattr(assignment, "assign_groups", careless)
    monkeypatch.setattr(stage, "merge_groups", lambda rows, *_: (rows, []))
    monkeypatch.setattr(stage, "deal_folds", lambda *_: no_folds("the assignment is careless"))
    with pytest.raises(LeakageError, match="sha256 'one' is in train"):
        split(params, project)
    assert not project.split_csv.exists()
    duplicates = read_json(project.split_json)["leakage"]["exact_duplicates"]
    assert [entry["splits"] for entry in duplicates] == [["train", "val", "test"]]


data_sets = st.dictionaries(
    st.text(
        st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="/\\"), min_size=1, max_size=5
    ),
    st.lists(st.integers(1, 12), min_size=3, max_size=8),
    min_size=2,
    max_size=4,
)


@settings(deadline=None, max_examples=25)
@given(data_sets, st.integers(0, 3), st.booleans(), st.randoms(use_true_random=False))
def test_whatever_the_data_the_split_is_honest_and_depends_on_the_seed_alone(
    clips: Clips, seed: int, with_val: bool, random: Random
) -> None:
    params = DEFAULTS.model_copy(update={"val": 0.2 if with_val else None, "seed": seed})
    frames = frames_of(clips)
    copies = copies_of(frames)
    written = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            project = Project(Path(folder))
            write(project, frames, copies)
            split(params, project)
            rows = manifest.read_split(project.split_csv)
            written.append((project.split_csv.read_bytes(), project.split_json.read_bytes()))
        random.shuffle(frames)
        random.shuffle(copies)
    assert written[0] == written[1]
    check_honest(rows, clips, with_val=with_val)


def check_honest(rows: Sequence[Row], clips: Clips, *, with_val: bool) -> None:
    refuse_leaks(rows)
    sides = sides_of(rows)
    assert all(len(sides_of_group) == 1 for sides_of_group in sides.values())
    for label in clips:
        sides_of_class = {side for group, (side,) in sides.items() if group.startswith(f"{label}/")}
        assert sides_of_class == ({"train", "val", "test"} if with_val else {"train", "test"})
    side_of = {row.path: row.split for row in rows if not row.parent}
    assert all(row.split == ("train" if side_of[row.parent] == "train" else "unused") for row in rows if row.parent)
