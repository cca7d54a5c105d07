"""The protocols of the split: what each divides, what each refuses, and why its numbers may flatter."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.base import manifest
from pipeline.base.errors import DataError, LeakageError, PipeError
from pipeline.base.files import read_json
from pipeline.base.leakage import read_split_without_leaks
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.split import protocols
from pipeline.split.params import SplitParams
from pipeline.split.stage import split
from tests.support.command import ROOT
from tests.support.small_project import without_search

DEFAULTS = without_search(read_section(ROOT / "params.yaml", "split", SplitParams))


def params(**changes: object) -> SplitParams:
    return SplitParams.model_validate(DEFAULTS.model_dump() | changes)


def clip_frames(label: str, clip: str, n_frames: int, *, given: str = "") -> list[Row]:
    source = f"data/raw/{label}/{clip}.mp4"
    return [
        Row(
            path=f"data/frames/{label}/{clip}.mp4/{number:06}.jpg",
            label=label,
            source=source,
            source_sha256=f"sha of {label} {clip}",
            group=source,
            given_split=given,
            time_seconds=float(number),
        )
        for number in range(n_frames)
    ]


def photos(label: str, number: int) -> list[Row]:
    return [
        replace(row, time_seconds=None) for clip in range(number) for row in clip_frames(label, f"photo{clip:05}", 1)
    ]


def clips(n_clips: int, n_frames: int = 10, labels: Sequence[str] = ("brick", "砾石")) -> list[Row]:
    return [
        row for label in labels for clip in range(n_clips) for row in clip_frames(label, f"clip{clip:02}", n_frames)
    ]


def copies_of(frames: Sequence[Row], number: int = 1) -> list[Row]:
    return [
        replace(row, path=f"data/augmented/{row.path}.{copy}_rotate_90.jpg", parent=row.path, transform="rotate_90")
        for row in frames
        for copy in range(number)
    ]


def split_rows(project: Project, asked: SplitParams, frames: Sequence[Row], copies: Sequence[Row] = ()) -> list[Row]:
    manifest.write(frames, project.frames_csv)
    manifest.write(copies, project.augmented_csv)
    split(asked, project)
    return read_split_without_leaks(project)


def refusal(project: Project, asked: SplitParams, frames: Sequence[Row], error: type[PipeError] = DataError) -> str:
    with pytest.raises(error) as caught:
        split_rows(project, asked, frames)
    assert not project.split_csv.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def side_of_groups(rows: Sequence[Row]) -> dict[str, str]:
    sides: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if not row.parent:
            sides[row.group].add(row.split)
    return {group: "+".join(sorted(sides_of_group)) for group, sides_of_group in sides.items()}


# The papers' protocol


def test_table_1_of_the_graphite_study(project: Project) -> None:
    frames = [
        row
        for label, number in {"鳞片石墨": 204, "膨胀石墨": 193, "人造石墨": 143, "炭黑": 175}.items()
        for row in clip_frames(label, "clip", number)
    ]
    asked = params(protocol="random", val=None, augmented_in_test=True)
    rows = split_rows(project, asked, frames, copies_of(frames, 4))
    assert Counter((row.split, row.label) for row in rows) == {
        ("train", "鳞片石墨"): 816, ("train", "膨胀石墨"): 772, ("train", "人造石墨"): 572, ("train", "炭黑"): 700,
        ("test", "鳞片石墨"): 204, ("test", "膨胀石墨"): 193, ("test", "人造石墨"): 143, ("test", "炭黑"): 175,
    }  # fmt: skip
    assert Counter(row.split for row in rows) == {"train": 2860, "test": 715}
    receipt = read_json(project.split_json)
    assert receipt["optimistic"] == (
        "images were dealt out at random, whatever clip they are of, and copies of training frames are tested on"
    )
    assert receipt["leakage"]["same_clip_within_seconds"] == {"clips": 4, "nearest_seconds": 1.0}


def test_the_same_without_copies_in_the_test_side_is_715_photos_8_to_2(project: Project) -> None:
    frames = [row for label, n in zip("abcd", (204, 193, 143, 175), strict=True) for row in photos(label, n)]
    rows = split_rows(project, params(protocol="random", val=None), frames, copies_of(frames))
    sides = {row.path: row.split for row in rows if not row.parent}
    assert Counter((row.label, row.split) for row in rows if not row.parent and row.split == "test") == {
        ("a", "test"): 41, ("b", "test"): 39, ("c", "test"): 29, ("d", "test"): 35,
    }  # fmt: skip
    assert all(row.split == ("train" if sides[row.parent] == "train" else "unused") for row in rows if row.parent)


def test_the_fish_study_rounds_the_test_side_down_per_class(project: Project) -> None:
    # 30 classes, 1,917 photos, 1,739 of them for training and 178 for validation; the counts per class are not given.
    sizes = [69] * 13 + [62] * 10 + [60] * 5 + [50] * 2
    assert sum(sizes) == 1917
    frames = [row for number, size in enumerate(sizes) for row in photos(f"fish{number:02}", size)]
    for protocol in ("random", "grouped"):
        rows = split_rows(project, params(protocol=protocol, ratio="9:1", val=None, rounding="down"), frames)
        assert Counter(row.split for row in rows) == {"train": 1739, "test": 178}
        assert all(
            sum(row.label == f"fish{number:02}" for row in rows if row.split == "test") == size // 10
            for number, size in enumerate(sizes)
        )
    nearest = split_rows(project, params(protocol="random", ratio="9:1", val=None), frames)
    assert Counter(row.split for row in nearest)["test"] == 178 + 13


def test_counts_per_class_leave_the_rest_unused(project: Project) -> None:
    frames = photos("cat", 300) + photos("dog", 250)
    rows = split_rows(project, params(counts={"train": 100, "val": 50, "test": 50}), frames, copies_of(frames))
    counted = Counter((row.label, row.split) for row in rows if not row.parent)
    assert [counted[label, side] for label in ("cat", "dog") for side in manifest.SPLITS] == [
        100, 50, 50, 100, 100, 50, 50, 50,
    ]  # fmt: skip
    assert read_json(project.split_json)["frames_unused"] == 150
    assert Counter(row.split for row in rows if row.parent) == {"train": 200, "unused": 350}


def test_more_than_there_is_cannot_be_counted_out(project: Project) -> None:
    message = refusal(project, params(counts={"train": 8, "val": 0, "test": 2}), photos("cat", 10) + photos("dog", 9))
    assert "'dog' has 9 clips or photos with kept frames; split.counts asks for 10" in message


def test_random_rows_that_claim_to_be_grouped_are_refused(project: Project) -> None:
    split_rows(project, params(protocol="random"), clips(3))
    receipt = project.split_json.read_text(encoding="utf-8")
    project.split_json.write_text(receipt.replace('"random"', '"grouped"'), encoding="utf-8")
    with pytest.raises(LeakageError, match=r"group 'data/raw/brick/clip00\.mp4' is in train"):
        read_split_without_leaks(project)


def test_copies_among_the_held_out_are_refused_unless_they_were_asked_for(project: Project) -> None:
    frames = clips(3)
    split_rows(project, params(protocol="random", augmented_in_test=True), frames, copies_of(frames))
    receipt = project.split_json.read_text(encoding="utf-8")
    project.split_json.write_text(receipt.replace('"augmented_in_test": true', '"augmented_in_test": false'))
    with pytest.raises(LeakageError, match="augmented image"):
        read_split_without_leaks(project)


def test_an_image_on_two_sides_is_refused_under_every_protocol(project: Project) -> None:
    rows = split_rows(project, params(protocol="random"), clips(3))
    twin = next(row for row in rows if row.split == "train")
    manifest.write_split([*rows, replace(twin, split="test")], project.split_csv)
    with pytest.raises(LeakageError, match="image"):
        read_split_without_leaks(project)


@pytest.mark.parametrize("content", ["{}", "[]", '{"protocol": "careless"}', '{"protocol": null}'])
def test_a_receipt_without_a_protocol_is_refused(project: Project, content: str) -> None:
    split_rows(project, DEFAULTS, clips(3))
    project.split_json.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"split\.json: protocol is"):
        read_split_without_leaks(project)


# One clip per class


def test_blocks_divide_one_clip_per_class_with_a_gap_between_the_sides(project: Project) -> None:
    frames = clips(1, 100)
    rows = split_rows(project, params(protocol="blocks", guard_seconds=5.0), frames, copies_of(frames))
    for label in ("brick", "砾石"):
        times = sorted((row.time_seconds or 0, row.split) for row in rows if row.label == label and not row.parent)
        counted = Counter(side for _, side in times)
        assert counted["unused"] == 8
        assert (counted["train"], counted["val"], counted["test"]) == pytest.approx((64, 16, 20), abs=5)
        sided = [(time, side) for time, side in times if side != "unused"]
        assert all(second - first >= 5 for (first, here), (second, there) in pairwise(sided) if here != there)
    side = {row.path: row.split for row in rows if not row.parent}
    assert all(row.split == ("train" if side[row.parent] == "train" else "unused") for row in rows if row.parent)
    receipt = read_json(project.split_json)
    assert receipt["optimistic"] == "training and test frames are of the same clips, 5 s apart or more"
    assert receipt["leakage"]["same_clip_within_seconds"] == {"clips": 2, "nearest_seconds": 5.0}
    assert receipt["frames_unused"] == 16


def test_the_reason_of_the_protocol_and_the_caveat_are_both_given(project: Project) -> None:
    split_rows(project, params(protocol="random", caveat="one photograph per class"), clips(3))
    optimistic = read_json(project.split_json)["optimistic"]
    assert optimistic == "images were dealt out at random, whatever clip they are of; one photograph per class"


def test_a_clip_that_is_shorter_than_its_gaps_is_refused(project: Project) -> None:
    asked = params(protocol="blocks", guard_seconds=30.0)
    assert "film longer clips, or lower split.guard_seconds" in refusal(project, asked, clips(1, 20))


def test_blocks_of_photos_are_refused(project: Project) -> None:
    assert "is a photo" in refusal(project, params(protocol="blocks"), photos("a", 5) + photos("b", 5))


def test_stretches_that_were_mixed_by_hand_are_refused(project: Project) -> None:
    rows = split_rows(project, params(protocol="blocks"), clips(1, 100))
    middle = next(row for row in rows if row.split == "train" and row.path.endswith("30.jpg"))
    manifest.write_split([replace(row, split="test") if row is middle else row for row in rows], project.split_csv)
    with pytest.raises(LeakageError, match="change sides"):
        read_split_without_leaks(project)


# Given


def given_frames(*sides: str) -> list[Row]:
    return [
        row
        for label in ("brick", "砾石")
        for number, side in enumerate(sides)
        for row in clip_frames(label, f"clip{number}", 4, given=side)
    ]


def test_given_sides_are_taken_from_the_folders_and_val_out_of_train_by_group(project: Project) -> None:
    rows = split_rows(project, params(protocol="given"), given_frames(*["train"] * 10, "test"))
    assert all(row.split == "test" for row in rows if row.given_split == "test")
    assert Counter(side_of_groups(rows).values()) == {"train": 16, "val": 4, "test": 2}
    assert read_json(project.split_json)["optimistic"] is None


def test_a_given_val_is_kept_and_none_is_carved(project: Project) -> None:
    rows = split_rows(project, params(protocol="given"), given_frames("train", "train", "val", "test"))
    assert all(row.split == row.given_split for row in rows)


def test_without_val_given_sides_are_taken_as_they_are(project: Project) -> None:
    rows = split_rows(project, params(protocol="given", val=None), given_frames("train", "test"))
    assert all(row.split == row.given_split for row in rows)


def test_given_needs_folders_that_say_it(project: Project) -> None:
    message = refusal(project, params(protocol="given"), [*given_frames("train", "test"), *clips(1)])
    assert "data/raw/<split>/<class>/ and extract.layout: split" in message


def test_given_folders_that_share_a_recording_are_refused_and_listed(project: Project) -> None:
    frames = [
        replace(row, source_sha256="same") if row.label == "brick" else row
        for row in given_frames("train", "train", "test")
    ]
    assert "is in train" in refusal(project, params(protocol="given", val=None), frames, LeakageError)
    duplicates = read_json(project.split_json)["leakage"]["exact_duplicates"]
    assert [entry["splits"] for entry in duplicates] == [["train", "test"]]


def test_given_folders_without_training_frames_of_a_class_are_refused(project: Project) -> None:
    frames = [*given_frames("train", "train", "test"), *clip_frames("grass", "clip", 4, given="test")]
    assert "'grass' has no kept frame in train" in refusal(project, params(protocol="given"), frames)


@pytest.mark.parametrize("asked", ["testing", "unused"])
def test_a_given_side_that_is_none_is_refused(project: Project, asked: str) -> None:
    assert "no folder says" in refusal(project, params(protocol="given"), given_frames("train", "train", asked))


def test_given_folders_without_a_test_side_are_refused(project: Project) -> None:
    assert "no frame is in the folder test" in refusal(project, params(protocol="given"), given_frames("train", "val"))


def test_a_single_given_training_clip_leaves_none_for_val(project: Project) -> None:
    message = refusal(project, params(protocol="given"), given_frames("train", "test"))
    assert "'brick' has 1 (film 1 more)" in message
    assert "with split.val: null one is enough" in message


# Folds


def test_every_group_is_held_out_in_exactly_one_fold(project: Project) -> None:
    frames = clips(11)
    held_out: Counter[str] = Counter()
    for fold in range(5):
        sides = side_of_groups(split_rows(project, params(folds=5, fold=fold), frames))
        counted = Counter((group.split("/")[2], side) for group, side in sides.items())
        for label in ("brick", "砾石"):
            assert counted[label, "test"] in (2, 3)
            assert counted[label, "val"] in (1, 2)
        held_out.update(group for group, side in sides.items() if side == "test")
    assert set(held_out.values()) == {1}
    assert len(held_out) == 22


def test_too_few_clips_for_the_folds_say_what_to_film(project: Project) -> None:
    message = refusal(project, params(folds=5), clips(4))
    assert "'brick' has 4 (film 1 more)" in message
    assert "every class needs 5 for 5 folds" in message
    assert "every class needs 4 for 2 folds" in refusal(project, params(folds=2), clips(3))


# Groups, and params that contradict one another


def test_clips_of_one_sample_stay_together(project: Project) -> None:
    frames = [
        row for label in "ab" for sample in range(5) for take in "xy"
        for row in clip_frames(label, f"{label}{sample}_{take}", 3)
    ]  # fmt: skip
    rows = split_rows(project, params(group_pattern=r"^(\w\d)_"), frames)
    assert len(side_of_groups(rows)) == 10
    assert all("+" not in side for side in side_of_groups(rows).values())


def test_a_group_under_two_labels_is_refused(project: Project) -> None:
    assert "are one group" in refusal(project, params(group_pattern=r"^(clip\d+)"), clips(5))


def test_every_fish_of_the_shared_crops_is_on_one_side(project: Project, shared: Path) -> None:
    frames = [
        Row(
            path=f"data/frames/{path.parent.name}/{path.name}",
            label=path.parent.name,
            source=f"data/raw/{path.parent.name}/{path.name}",
            source_sha256=path.name,
            group=path.name,
        )
        for path in sorted((shared / "data" / "fish").glob("*/*.png"))
    ]
    rows = split_rows(project, params(group_pattern="^(.*)_frame"), frames)
    sides = side_of_groups(rows)
    assert 0 < len(sides) < len(frames)
    assert set(sides.values()) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"augmented_in_test": True}, "augmented_in_test needs protocol: random"),
        ({"protocol": "given", "counts": {"train": 1, "val": 1, "test": 1}}, "counts needs protocol"),
        ({"protocol": "blocks", "folds": 5}, "folds needs protocol: grouped"),
        ({"folds": 5, "counts": {"train": 1, "val": 1, "test": 1}}, "exclude one another"),
        ({"folds": 5, "fold": 5}, "fold is 5; expected 0 to 4"),
        ({"group_pattern": "(frame"}, "is not a regular expression"),
        ({"guard_seconds": -1}, "greater than or equal to 0"),
        ({"rounding": "up"}, "'nearest' or 'down'"),
    ],
)
def test_params_that_contradict_one_another_are_refused(changes: dict[str, object], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        params(**changes)


def test_a_planted_fault_in_the_arithmetic_is_caught_before_anything_is_written(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def alternating(frames: Sequence[Row], *_: object) -> dict[str, str]:
        return {row.path: ("train", "val", "test")[number % 3] for number, row in enumerate(frames)}

    monkeypatch.setattr(protocols, "_by_group", alternating)
    assert "group 'data/raw/brick/clip00.mp4' is in train" in refusal(project, DEFAULTS, clips(3), LeakageError)
