"""What was dealt stays dealt: recordings keep their sides and folds when the data grow or are corrected."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.base import manifest
from pipeline.base.errors import DataError, ParamsError
from pipeline.base.files import read_json
from pipeline.base.leakage import read_split_without_leaks
from pipeline.base.manifest import SIDES, Row
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.split import stage
from pipeline.split.folds import deal_folds
from pipeline.split.kept.notes import dealt_by
from pipeline.split.kept.places import Kept, extended, find_kept
from pipeline.split.kept.table import KeptTable, Place, read_kept, write_kept
from pipeline.split.params import SplitCounts, SplitParams
from pipeline.split.stage import split
from tests.support.command import ROOT, run_pipe
from tests.support.small_project import set_params, without_search

KEEPS = without_search(read_section(ROOT / "params.yaml", "split", SplitParams), keep=True)
LABELS = ("brick", "砾石")
Places = Mapping[str, tuple[str, int | None]]  # side and fold by sha256


def params(**changes: object) -> SplitParams:
    return SplitParams.model_validate(KEEPS.model_dump() | changes)


def clip(label: str, name: str, sha256: str = "", n_frames: int = 4) -> list[Row]:
    source = f"data/raw/{label}/{name}.mp4"
    return [
        Row(
            path=f"data/frames/{label}/{name}.mp4/{number}.jpg",
            label=label,
            source=source,
            source_sha256=sha256 or f"sha of {label} {name}",
            group=source,
            time_seconds=float(number),
        )
        for number in range(n_frames)
    ]


def clips(n_clips: int, first: int = 0, labels: Sequence[str] = LABELS) -> list[Row]:
    return [row for label in labels for number in range(first, first + n_clips) for row in clip(label, f"{number:02}")]


def dealt(project: Project, frames: Sequence[Row], asked: SplitParams = KEEPS, *, reshuffle: bool = False) -> Places:
    """Where a split puts every recording."""
    manifest.write(frames, project.frames_csv)
    manifest.write([], project.augmented_csv)
    NOTES.clear()
    split(asked, project, reshuffle=reshuffle)
    places = {row.source_sha256: (row.split, row.fold) for row in read_split_without_leaks(project)}
    if asked.keep and asked.draws_test_groups:
        kept = {place.source_sha256: place for place in read_kept(project.split_keep_csv).places}
        assert all(kept[sha256].split == side for sha256, (side, _) in places.items())
        assert all(kept[sha256].fold == fold for sha256, (_, fold) in places.items() if fold is not None)
    return places


NOTES: list[str] = []  # what the last split said, without its closing line


@pytest.fixture(autouse=True)
def _noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "tell", NOTES.append)


def table(project: Project, *lines: str) -> None:
    project.split_keep_csv.parent.mkdir(parents=True, exist_ok=True)
    project.split_keep_csv.write_text("\n".join(lines) + "\n", encoding="utf-8")


# Growing


def test_five_more_clips_move_no_old_one_and_fill_up_the_sides(project: Project) -> None:
    before = dealt(project, clips(7))
    assert NOTES == []
    five = [*clips(2, first=20), *clips(3, first=30, labels=("brick",))]
    after = dealt(project, [*clips(7), *five])
    assert {sha256: after[sha256] for sha256 in before} == before
    assert len(after) == 21
    headline_counts = Counter((sha256.split()[2], side) for sha256, (side, _) in after.items())
    # 8:2 with val 0.2 of 12 and 9 clips, as if all had been dealt at once
    assert [headline_counts["brick", side] for side in SIDES] == [8, 2, 2]
    assert [headline_counts["砾石", side] for side in SIDES] == [6, 1, 2]
    folds = Counter((sha256.split()[2], fold) for sha256, (_, fold) in after.items())
    assert {folds["brick", fold] for fold in range(5)} == {2, 3}
    assert {folds["砾石", fold] for fold in range(5)} == {1, 2}
    assert read_json(project.split_json)["pins"] == {"pinned": 21, "new": 0, "gone": 0}
    # The control: had nothing been kept, old clips would have moved.
    anew = dealt(project, [*clips(7), *five], params(keep=False))
    assert {sha256: anew[sha256] for sha256 in before} != before


def test_a_second_run_changes_no_byte(project: Project) -> None:
    dealt(project, clips(6))
    files = (project.split_csv, project.split_json, project.split_keep_csv)  # later stages depend on the receipt too
    before = [path.read_bytes() for path in files]
    dealt(project, clips(6))
    assert [path.read_bytes() for path in files] == before
    assert NOTES == []


def test_the_first_split_is_the_one_that_was_dealt_without_keeping(project: Project) -> None:
    assert dealt(project, clips(9)) == dealt(project, clips(9), params(keep=False))
    assert len(read_kept(project.split_keep_csv).places) == 18


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.lists(st.integers(0, 4), min_size=2, max_size=3), min_size=2, max_size=4), st.integers(0, 2), st.data()
)
def test_however_the_data_grow_and_shrink_no_fold_of_a_clip_changes(
    additions: list[list[int]], seed: int, data: st.DataObject
) -> None:
    n_classes = min(map(len, additions))
    frames = [row for label in range(n_classes) for number in range(3) for row in clip(f"c{label}", f"{number}-0")]
    asked, kept = params(seed=seed), Kept()
    for turn, addition in enumerate(additions, start=1):
        for label, n_new in enumerate(addition[:n_classes]):
            frames += [row for number in range(n_new) for row in clip(f"c{label}", f"{number}-{turn}")]
        folds = deal_folds(frames, asked, kept.fold_of)
        assert {group: folds.fold_of[group] for group in kept.fold_of} == kept.fold_of
        for label in range(n_classes):
            of_class = Counter(fold for group, fold in folds.fold_of.items() if f"/c{label}/" in group)
            assert len(of_class) > 1
            if folds.n_folds > max(kept.fold_of.values(), default=0) + 1:
                assert max(of_class.values()) - min(of_class.values()) <= 1 or len(of_class) < folds.n_folds
        assert set(folds.fold_of.values()) == set(range(folds.n_folds))
        places = [Place(f"sha of {group}", group, "train", fold) for group, fold in folds.fold_of.items()]
        named = [replace(row, source_sha256=f"sha of {row.group}") for row in frames]
        kept = find_kept(KeptTable(tuple(places)), named, named, asked)
    gone = data.draw(st.sampled_from(sorted({row.group for row in frames})))
    left = [row for row in frames if row.group != gone]
    folds = deal_folds(left, asked, {group: fold for group, fold in kept.fold_of.items() if group != gone})
    if folds.n_folds == max(kept.fold_of.values()) + 1:
        assert all(folds.fold_of[row.group] == kept.fold_of[row.group] for row in left)


def test_more_clips_open_more_folds_only_where_these_can_be_as_full_as_the_others(project: Project) -> None:
    before = dealt(project, clips(3))
    assert {fold for _, fold in before.values()} == {0, 1, 2}
    after = dealt(project, clips(5))
    assert {fold for _, fold in after.values()} == {0, 1, 2, 3, 4}
    assert {sha256: after[sha256] for sha256 in before} == before
    assert NOTES == ["5 folds, 3 before: new recordings fill the new ones, and no other one moved"]
    # Eight clips in two folds have four in each, where five folds would have one or two.
    kept = {f"data/raw/{label}/{number:02}.mp4": number % 2 for label in LABELS for number in range(8)}
    assert deal_folds(clips(8), KEEPS, kept).n_folds == 2
    assert deal_folds(clips(11), KEEPS, kept).n_folds == 3
    assert deal_folds(clips(10), KEEPS, kept).n_folds == 2
    assert deal_folds(clips(17), KEEPS, kept).n_folds == 5


def test_a_class_that_comes_later_with_few_clips_leaves_the_folds_as_they_are(project: Project) -> None:
    before = dealt(project, clips(6))
    after = dealt(project, [*clips(6), *clips(3, labels=("late",))])
    assert {sha256: after[sha256] for sha256 in before} == before
    late = [after[f"sha of late {number:02}"] for number in range(3)]
    assert {side for side, _ in late} == set(SIDES)
    assert len({fold for _, fold in late}) == 3


# Correcting


def test_renamed_relabelled_and_removed_clips_leave_the_others_where_they_are(project: Project) -> None:
    before = dealt(project, clips(8))
    renamed = [
        replace(
            row, source=row.source.replace("brick", "ziegel"), group=row.group.replace("brick", "ziegel"), label="z"
        )
        for row in clips(8)
        if row.label == "brick"
    ]
    others = [row for row in clips(8) if row.label != "brick"]
    in_test = next(row.source_sha256 for row in others if before[row.source_sha256][0] == "test")
    relabelled = [replace(row, label="z") if row.source_sha256 == in_test else row for row in [*renamed, *others]]
    assert dealt(project, relabelled) == before
    gone = next(sha256 for sha256, (side, _) in before.items() if side == "train")
    left = dealt(project, [row for row in relabelled if row.source_sha256 != gone])
    assert left == {sha256: place for sha256, place in before.items() if sha256 != gone}
    place = next(place for place in read_kept(project.split_keep_csv).places if place.source_sha256 == gone)
    assert NOTES[0] == (
        f"data/split.keep.csv: no recording is there for {place.source} (train); each gets its place again when it "
        "comes back, or you delete its line"
    )
    assert read_json(project.split_json)["pins"]["gone"] == 1
    assert dealt(project, relabelled) == before  # it came back
    # The control: without the kept places the new names deal the clips to other sides.
    project.split_keep_csv.unlink()
    assert dealt(project, relabelled) != before


def test_a_file_that_was_cut_anew_under_its_old_name_keeps_its_place(project: Project) -> None:
    before = dealt(project, clips(6))
    cut = [
        replace(row, source_sha256="cut anew") if row.source_sha256 == "sha of brick 03" else row for row in clips(6)
    ]
    after = dealt(project, cut)
    assert after["cut anew"] == before["sha of brick 03"]
    assert NOTES == []
    assert "sha of brick 03" not in project.split_keep_csv.read_text(encoding="utf-8")


def test_an_exact_copy_goes_with_its_clip(project: Project) -> None:
    before = dealt(project, clips(6))
    after = dealt(project, [*clips(6), *clip("brick", "a_new_name", "sha of brick 05")])
    assert after == before


def test_where_the_last_clip_of_a_fold_is_gone_the_folds_are_numbered_without_a_gap(project: Project) -> None:
    before = dealt(project, clips(3))
    gone = {sha256 for sha256, (_, fold) in before.items() if fold == 1}
    left = [row for row in clips(3) if row.source_sha256 not in gone]
    folds = deal_folds(left, KEEPS, {row.group: before[row.source_sha256][1] or 0 for row in left})
    assert (folds.n_folds, set(folds.fold_of.values())) == (2, {0, 1})
    before_of = {group: before[f"sha of {group[9:-4].replace('/', ' ')}"][1] for group in folds.fold_of}
    assert {(before_of[group], fold) for group, fold in folds.fold_of.items()} == {(0, 0), (2, 1)}


def test_clips_of_a_class_in_one_fold_only_leave_no_folds_and_the_kept_places_are_named() -> None:
    frames = clips(2)
    kept = {row.group: 0 if row.label == "brick" else int(row.group[-5]) for row in frames}
    reason = deal_folds(frames, KEEPS, kept).reason or ""
    assert reason.startswith("data/split.keep.csv keeps all clips of 'brick' in one fold, and folds need two")
    assert "`pipe split --reshuffle`" in reason
    assert deal_folds([*frames, *clip("brick", "new")], KEEPS, kept).n_folds == 2


def test_a_side_that_kept_places_leave_empty_is_refused_and_they_are_named(project: Project) -> None:
    table(project, "group,split", *(f"data/raw/brick/0{number}.mp4,train" for number in range(3)))
    with pytest.raises(DataError) as caught:
        dealt(project, clips(3))
    assert "'brick' has 3 (film 2 more)" in str(caught.value)
    assert "data/split.keep.csv keeps the others on their sides" in str(caught.value)
    assert "`pipe split --reshuffle`" in str(caught.value)
    assert project.split_keep_csv.read_text(encoding="utf-8").startswith("group,split\n")  # as it was
    project.split_keep_csv.unlink()
    with pytest.raises(DataError) as caught:
        dealt(project, clips(2))
    assert "split.keep.csv" not in str(caught.value)  # the control: nobody keeps anything here


# Joined groups


def joined(project: Project, first: str, second: str) -> Places:
    project.groups_csv.write_text(f"source,group\ndata/raw/{first}.mp4,one\ndata/raw/{second}.mp4,one\n")
    return dealt(project, clips(9))


def test_what_was_trained_on_is_never_tested_on_when_groups_are_joined(project: Project) -> None:
    before = dealt(project, clips(9))
    bricks = {side: [f"{n:02}" for n in range(9) if before[f"sha of brick {n:02}"][0] == side] for side in SIDES}
    in_train, in_test = bricks["train"][0], bricks["test"][0]
    after = joined(project, f"brick/{in_train}", f"brick/{in_test}")
    moved = {sha256 for sha256 in before if before[sha256][0] != after[sha256][0]}
    assert moved == {f"sha of brick {in_test}"}
    assert after[f"sha of brick {in_test}"][0] == "train"
    note = NOTES[0]
    assert f"data/raw/brick/{in_train}.mp4 (train, fold " in note
    assert f"data/raw/brick/{in_test}.mp4 (test, fold " in note
    assert "are one group now, with one place: train, fold " in note
    assert dealt(project, clips(9)) == after
    assert NOTES == []  # said once: the new places are kept from then on


@pytest.mark.parametrize(("sides", "expected"), [("val test", "val"), ("test val", "val"), ("test train val", "train")])
def test_the_first_side_of_a_joined_group_counts(sides: str, expected: str) -> None:
    frames = [replace(row, group="one") for number in range(3) for row in clip("a", str(number))]
    places = tuple(Place(f"sha of a {number}", "", side) for number, side in enumerate(sides.split()))
    assert find_kept(KeptTable(places), frames, frames, KEEPS).side_of == {"one": expected}


def test_the_fold_of_most_recordings_of_a_joined_group_counts() -> None:
    frames = [replace(row, group="one") for number in range(4) for row in clip("a", str(number))]
    for folds, expected in (([2, 1, 2, None], 2), ([2, 1, None, None], 1), ([None] * 4, None)):
        places = tuple(Place(f"sha of a {number}", "", "train", fold) for number, fold in enumerate(folds))
        kept = find_kept(KeptTable(places), frames, frames, KEEPS)
        assert kept.fold_of.get("one") == expected
        assert bool(kept.torn) == (expected is not None)


# Lines that a person writes, and those of earlier versions


def test_a_person_puts_a_clip_and_a_group_on_a_side(project: Project) -> None:
    dealt(project, clips(6))
    project.groups_csv.write_text(
        "source,group\ndata/raw/砾石/90.mp4,pair\ndata/raw/砾石/91.mp4,pair\n", encoding="utf-8"
    )
    with project.split_keep_csv.open("a", encoding="utf-8") as file:
        file.write(",data/raw/brick/90.mp4,test,,\n,pair,val,,\n,data/raw/brick/99.mp4,val,,\n")
    after = dealt(project, [*clips(6), *clips(2, first=90)])
    assert after["sha of brick 90"][0] == "test"
    assert {after["sha of 砾石 90"][0], after["sha of 砾石 91"][0]} == {"val"}
    assert [note for note in NOTES if "data/raw/brick/99.mp4 (val)" in note]
    by_hand = {place.source: place.source_sha256 for place in read_kept(project.split_keep_csv).by_hand().places}
    assert by_hand == {
        "data/raw/brick/90.mp4": "sha of brick 90", "data/raw/brick/99.mp4": "",
        "data/raw/砾石/90.mp4": "sha of 砾石 90", "data/raw/砾石/91.mp4": "sha of 砾石 91",
    }  # fmt: skip
    again = dealt(project, [*clips(6), *clips(2, first=90)], reshuffle=True)
    assert again["sha of brick 90"][0] == "test"
    assert "; 4 lines that a person wrote stayed" in NOTES[-1]


def test_a_line_of_a_person_that_contradicts_a_kept_one_is_refused(project: Project) -> None:
    before = dealt(project, clips(6))
    other = "test" if before["sha of brick 00"][0] == "train" else "train"
    with project.split_keep_csv.open("a", encoding="utf-8") as file:
        file.write(f",data/raw/brick/00.mp4,{other},,\n")
    written = project.split_keep_csv.read_bytes()
    with pytest.raises(
        DataError, match=r"split\.keep\.csv:14: 'data/raw/brick/00\.mp4' is kept on .* delete one of the"
    ):
        dealt(project, clips(6))
    assert project.split_keep_csv.read_bytes() == written


def test_pins_of_an_earlier_version_are_read_and_written_by_content(project: Project) -> None:
    table(project, "group,split", "data/raw/brick/00.mp4,test", "data/raw/brick/01.mp4,val", "data/raw/gone.mp4,train")
    after = dealt(project, clips(6))
    assert (after["sha of brick 00"][0], after["sha of brick 01"][0]) == ("test", "val")
    assert NOTES[0] == (
        "data/split.keep.csv: has the columns group,split of an earlier version; this run writes it by content; empty "
        "dealt_by in the lines that you wrote yourself, else `pipe split --reshuffle` forgets them"
    )
    assert "data/raw/gone.mp4 (train)" in NOTES[1]
    lines = project.split_keep_csv.read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["source_sha256,source,split,fold,dealt_by", ",data/raw/gone.mp4,train,,an earlier version"]
    assert len(lines) == 14
    assert dealt(project, clips(6)) == after
    assert len(NOTES) == 1  # the recording that is gone, and nothing of an earlier version


# Params that change, and what is left aside


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"seed": 7}, "ratio 8:2 val 0.2 seed 7"), ({"ratio": "6:4"}, "ratio 6:4 val 0.2 seed 0"),
     ({"rounding": "down"}, "ratio 8:2 val 0.2 rounding down seed 0"),
     ({"counts": {"train": 2, "val": 1, "test": 1}}, "counts 2 1 1 seed 0")],
)  # fmt: skip
def test_other_params_move_no_clip_and_one_line_says_so(
    project: Project, changes: dict[str, object], words: str
) -> None:
    before = dealt(project, clips(6))
    after = dealt(project, clips(6), params(**changes))
    assert {sha256: side for sha256, (side, _) in after.items()} == {sha: side for sha, (side, _) in before.items()}
    said = [note for note in NOTES if "params.yaml asks for" in note]
    assert said == [
        "data/split.keep.csv: 12 of 12 recordings keep the places that ratio 8:2 val 0.2 seed 0 dealt; params.yaml "
        f"asks for {words}, which new ones follow; `pipe split --reshuffle` deals all anew"
    ]
    assert dealt(project, clips(6)) == before
    assert NOTES == []


def test_another_ratio_is_followed_by_new_clips_and_the_kept_ones_are_named_as_the_cause(project: Project) -> None:
    before = dealt(project, clips(10))
    after = dealt(project, clips(14), params(ratio="1:3"))
    assert {sha256: after[sha256] for sha256 in before} == before
    new = Counter(side for sha256, (side, _) in after.items() if sha256 not in before)
    assert new["train"] == 0
    assert any(
        note.startswith(
            "6 of 14 groups of 'brick' are in train, where the ratio gives 2.8 (and 3 more like it): data/sp"
        )
        for note in NOTES
    ), NOTES


def test_clips_of_val_train_where_no_val_is_asked_for(project: Project) -> None:
    before = dealt(project, clips(6))
    n_in_val = sum(side == "val" for side, _ in before.values())
    after = dealt(project, clips(6), params(val=None))
    assert {sha256: after[sha256] for sha256 in before} == {
        sha256: ("train" if side == "val" else side, fold) for sha256, (side, fold) in before.items()
    }
    assert f"data/split.keep.csv: {n_in_val} recordings of val went to train, since the params ask for no val" in (
        NOTES
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"protocol": "random"}, "split.protocol: random"), ({"folds": 3}, "split.folds: 3"),
     ({"protocol": "blocks", "guard_seconds": 0.0}, "split.protocol: blocks")],
)  # fmt: skip
def test_what_does_not_use_kept_places_says_so_and_leaves_the_file(
    project: Project, changes: dict[str, object], words: str
) -> None:
    frames = [row for label in LABELS for number in range(6) for row in clip(label, f"{number:02}", n_frames=9)]
    dealt(project, frames)
    kept = project.split_keep_csv.read_bytes()
    dealt(project, frames, params(**changes))
    assert project.split_keep_csv.read_bytes() == kept
    assert [
        f"data/split.keep.csv: 12 recordings have places, which {words} does not use; the file stays as it is"
    ] == NOTES
    project.split_keep_csv.unlink()
    dealt(project, frames, params(**changes))
    assert NOTES == []


@pytest.mark.parametrize("by", ["split.keep is false", "DVC runs an experiment"])
def test_what_is_left_aside_is_neither_read_nor_written(
    project: Project, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    fresh = dealt(project, clips(6), params(seed=3, keep=False))
    table(project, "not a table of ours", "at all")
    kept = project.split_keep_csv.read_bytes()
    if by == "DVC runs an experiment":
        monkeypatch.setenv("DVC_EXP_BASELINE_REV", "0" * 40)
    asked = params(seed=3, keep=by == "DVC runs an experiment")
    manifest.write(clips(6), project.frames_csv)
    NOTES.clear()
    split(asked, project)
    rows = read_split_without_leaks(project)
    assert {row.source_sha256: (row.split, row.fold) for row in rows} == fresh
    assert project.split_keep_csv.read_bytes() == kept
    keep = "; before you keep this result: `dvc repro --force --single-item split`, then `dvc repro`"
    assert [
        f"data/split.keep.csv: is left aside, since {by}; all clips are dealt by the params alone"
        f"{keep if by == 'DVC runs an experiment' else ''}"
    ] == NOTES
    receipt = read_json(project.split_json)  # by these `pipe status` knows the split of an experiment
    assert (receipt["asked"]["keep"], receipt["pins"]["pinned"]) == (asked.keep, 0)
    with pytest.raises(ParamsError, match=f"--reshuffle: .* since {by}"):
        split(asked, project, reshuffle=True)
    monkeypatch.delenv("DVC_EXP_BASELINE_REV", raising=False)
    with pytest.raises(DataError, match="found the columns not a table of ours"):  # the control: else it is read
        split(params(), project)


def test_groups_beyond_the_asked_counts_keep_no_place(project: Project) -> None:
    asked = params(counts=SplitCounts(train=2, val=1, test=1))
    before = dealt_with_unused(project, asked)
    assert Counter(before.values()) == {"train": 4, "val": 2, "test": 2, "unused": 4}
    assert len(read_kept(project.split_keep_csv).places) == 8
    assert dealt_with_unused(project, asked) == before


def dealt_with_unused(project: Project, asked: SplitParams) -> dict[str, str]:
    manifest.write(clips(6), project.frames_csv)
    manifest.write([], project.augmented_csv)
    split(asked, project)
    return {row.source_sha256: row.split for row in read_split_without_leaks(project)}


# Reshuffling


def test_a_stage_that_dies_before_it_has_written_the_split_has_kept_the_places(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(rows: object, path: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(manifest, "write_split", die)
        with pytest.raises(KeyboardInterrupt):
            dealt(project, clips(6))
    assert not project.split_csv.exists()
    kept = project.split_keep_csv.read_bytes()
    assert len(dealt(project, clips(6))) == 12
    assert project.split_keep_csv.read_bytes() == kept


def test_a_reshuffle_deals_all_anew_and_says_what_it_costs(project: Project) -> None:
    before = dealt(project, clips(7))
    grown = dealt(project, clips(30))
    fresh = dealt(project, clips(30), params(keep=False, seed=5))
    assert dealt(project, clips(30), params(seed=5)) == grown  # the control: only a reshuffle takes the other seed
    after = dealt(project, clips(30), params(seed=5), reshuffle=True)
    assert after == fresh
    n_moved = sum(grown[sha256] != fresh[sha256] for sha256 in grown)
    n_seen = sum(grown[sha256][0] == "train" and fresh[sha256][0] == "test" for sha256 in grown)
    assert min(n_moved, n_seen, len(before)) > 0
    assert NOTES[-1] == (
        f"dealt anew: {n_moved} of 60 recordings changed the side or the fold, so earlier numbers cannot be compared "
        f"with new ones; {n_seen} of the test side were on the training side before, and earlier models have seen them"
    )
    assert dealt(project, clips(30), params(seed=5)) == after
    assert NOTES == []


def test_only_a_split_that_is_kept_can_be_reshuffled(project: Project) -> None:
    dealt(project, clips(6))
    with pytest.raises(ParamsError, match="--reshuffle: found protocol random, folds None, hold_out None; expected"):
        split(params(protocol="random"), project, reshuffle=True)


def test_the_command_keeps_says_and_reshuffles(project: Project) -> None:
    set_params(project, split={"near_duplicates": {"search": False, "hash_bits": 4, "correlation": 0.7}})
    manifest.write(clips(6), project.frames_csv)
    manifest.write([], project.augmented_csv)
    split(KEEPS, project)
    manifest.write(clips(12), project.frames_csv)
    set_params(project, split={"seed": 5})
    finished = run_pipe(project.root, "split")
    assert finished.returncode == 0, finished.stderr
    first, last = finished.stdout.splitlines()
    assert first.startswith(
        "data/split.keep.csv: 12 of 12 recordings keep the places that ratio 8:2 val 0.2 seed 0 deal"
    )
    assert "; 12 groups keep their places, 12 new; " in last
    finished = run_pipe(project.root, "split", "--reshuffle")
    assert finished.returncode == 0, finished.stderr
    assert "\ndealt anew: " in f"\n{finished.stdout}"
    assert "keep" not in finished.stdout.splitlines()[-1]


# The lines


def test_the_lines_have_the_first_name_of_each_recording_and_what_dealt_it() -> None:
    frames = [
        replace(row, split="train", fold=2) for row in [*clip("b", "1", "s"), *clip("a", "1", "s"), *clip("a", "2", "")]
    ]
    frames = [row for row in frames if row.source_sha256]
    unsided = [replace(frames[0], source_sha256="u", split="unused")]
    known = Kept(place_of={"s": Place("s", "old name", "val", 1, "ratio")}, without_clip=(Place("g", "gone", "test"),))
    asked = dealt_by(KEEPS)
    assert list(extended(known, [*frames, *unsided], asked)) == [
        Place("s", "data/raw/a/1.mp4", "train", 2, "ratio"), Place("sha of a 2", "data/raw/a/2.mp4", "train", 2, asked),
        Place("g", "gone", "test"),
    ]  # fmt: skip


def test_a_fold_is_not_forgotten_by_a_run_without_folds() -> None:
    row = replace(clip("a", "1", "s")[0], split="train")
    known = Kept(place_of={"s": Place("s", "a", "train", 3, "ratio")})
    assert [place.fold for place in extended(known, [row], "other")] == [3]


def test_a_thousand_names_are_not_all_listed(project: Project) -> None:
    write_kept((Place(f"{n:04}", f"gone {n:04}", "train", 0, "x") for n in range(1000)), project.split_keep_csv)
    dealt(project, clips(6))
    sides: dict[str, int] = defaultdict(int)
    for place in read_kept(project.split_keep_csv).places:
        sides["gone" if place.source.startswith("gone") else "there"] += 1
    assert sides == {"gone": 1000, "there": 12}
    assert "gone 0009 (train) and 990 more; " in NOTES[0]
    assert Path(project.split_keep_csv).read_text(encoding="utf-8").count("\n") == 1013
