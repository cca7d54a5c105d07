"""What was joined and why: in the manifest, in the receipt, and in the words about the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.files import read_json
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.split import joined as joined_module
from pipeline.split.joined import JoinedGroup
from pipeline.split.params import SplitParams
from pipeline.split.stage import split
from tests.support.small_project import without_search

OPTIMISTIC = "photos of one object may be on both sides"
BY_NAMES = "names alike but for their last number"


def photos(label: str, n_objects: int = 6, n_shots: int = 3, **values: str) -> list[Row]:
    """Photos data/raw/<class>/<class><object>_<shot>.jpg."""
    return [
        Row(f"data/frames/{name}.jpg", label, f"data/raw/{name}", f"sha of {name}", f"data/raw/{name}", **values)
        for number in range(n_objects)
        for shot in range(n_shots)
        for name in [f"{label}/{label}{number}_{shot}.jpg"]
    ]


def clips(label: str, *names: str) -> list[Row]:
    """Two frames of each clip."""
    return [
        Row(f"data/frames/{source}/{time}.jpg", label, source, f"sha of {source}", source, time_seconds=float(time))
        for name in names
        for source in [f"data/raw/{label}/{name}.mp4"]
        for time in range(2)
    ]


def params_of(project: Project, **values: Any) -> SplitParams:
    defaults = read_section(project.params_yaml, "split", SplitParams)
    return without_search(defaults).model_copy(update=values)


def split_photos(project: Project, rows: Sequence[Row], **values: Any) -> tuple[list[Row], Any]:
    """The rows and the receipt of a split."""
    manifest.write(rows, project.frames_csv)
    manifest.write([], project.augmented_csv)
    split(params_of(project, **values), project)
    return manifest.read_split(project.split_csv), read_json(project.split_json)


def test_photos_of_one_object_are_on_one_side_and_the_manifest_says_why(project: Project) -> None:
    rows, receipt = split_photos(project, photos("a") + photos("b"))
    sides = {row.group: set[str]() for row in rows}
    for row in rows:
        sides[row.group].add(row.split)
    assert len(sides) == 12
    assert all(len(of_group) == 1 for of_group in sides.values())
    assert {row.group_reason for row in rows} == {BY_NAMES}
    joined = receipt["joined"]
    assert (joined["groups"], joined["recordings"], joined["photos"], joined["photos_unconfirmed"]) == (12, 36, 36, 36)
    assert joined["listed"][0] == {
        "group": "data/raw/a/a0_0.jpg", "label": "a", "reason": BY_NAMES, "recordings": 3,
        "sources": [f"data/raw/a/a0_{shot}.jpg" for shot in range(3)],
    }  # fmt: skip


def test_photos_are_optimistic_until_a_person_confirms_their_groups(project: Project) -> None:
    rows = photos("a") + photos("b")
    assert split_photos(project, rows)[1]["optimistic"] == OPTIMISTIC
    placed, receipt = split_photos(project, rows, photo_groups="each", caveat="one day")
    assert receipt["optimistic"] == f"one day; {OPTIMISTIC}"
    assert {row.group_reason for row in placed} == {""}
    assert len({row.group for row in placed}) == 36
    placed, receipt = split_photos(project, rows, photo_groups="confirmed")
    assert receipt["optimistic"] is None
    assert len({row.group for row in placed}) == 12


def test_groups_that_a_person_names_are_confirmed(project: Project) -> None:
    rows = photos("a") + photos("b")
    assert split_photos(project, rows, group_pattern=r"^(\w\d)_")[1]["optimistic"] is None
    lines = [f"{row.source},{row.label}{row.source[-7]}" for row in rows]
    project.groups_csv.write_text("\n".join(["source,group", *lines[:-1]]), encoding="utf-8")
    placed, receipt = split_photos(project, rows)
    assert receipt["joined"]["photos_unconfirmed"] == 1
    assert receipt["optimistic"] == OPTIMISTIC
    project.groups_csv.write_text("\n".join(["source,group", *lines]), encoding="utf-8")
    placed, receipt = split_photos(project, rows)
    assert receipt["optimistic"] is None
    assert {row.group_reason for row in placed} == {"named in data/groups.csv"}


def test_a_person_says_no_in_groups_csv(project: Project) -> None:
    rows = photos("a") + photos("b")
    source = rows[0].source
    project.groups_csv.parent.mkdir(parents=True)
    project.groups_csv.write_text(f"source,group\n{source},{source}\n", encoding="utf-8")
    placed, receipt = split_photos(project, rows)
    assert [row.path for row in placed if row.group == source] == [rows[0].path]
    assert receipt["joined"]["listed"][0]["sources"] == [rows[1].source, rows[2].source]


def test_the_numbering_of_a_data_set_is_said_in_the_receipt(project: Project) -> None:
    rows = [
        replace(row, path=f"f/{number}.jpg", source=f"data/raw/{row.label}/cat.{number}.jpg", group=f"{number}")
        for number, row in enumerate(photos("a") + photos("b"))
    ]
    _, receipt = split_photos(project, rows)
    assert [sentence.split(" (")[0] for sentence in receipt["joined"]["left_apart"]] == [
        "18 of the 18 photos of 'a'", "18 of the 18 photos of 'b'",
    ]  # fmt: skip
    assert receipt["joined"]["groups"] == 0
    assert receipt["optimistic"] == OPTIMISTIC


def test_chapters_are_one_group_and_clips_are_not_optimistic(project: Project) -> None:
    names = [f"GX{chapter:02}{number:04}" for number in range(6) for chapter in (1, 2)]
    rows, receipt = split_photos(project, clips("a", *names) + clips("b", *names), photo_groups="each")
    assert len({row.group for row in rows}) == 12
    assert {row.group_reason for row in rows} == {"chapters of one recording by their names"}
    assert receipt["optimistic"] is None
    assert receipt["joined"]["photos"] == 0


def test_chapters_in_folders_of_two_sides_are_counted_and_make_the_number_optimistic(project: Project) -> None:
    rows = clips("a", "GX010001", "GX020001", "p", "q") + clips("b", "p", "q")
    given = [replace(row, given_split="test" if "GX02" in row.path or "/q" in row.path else "train") for row in rows]
    _, receipt = split_photos(project, given, protocol="given", val=None)
    assert receipt["joined"]["across_folders"] == 1
    assert receipt["optimistic"] == "1 pair of recordings that belong together lie in folders of two sides"
    one_side = [replace(row, given_split="train") if "GX02" in row.path else row for row in given]
    _, receipt = split_photos(project, one_side, protocol="given", val=None)
    assert (receipt["joined"]["across_folders"], receipt["joined"]["groups"], receipt["optimistic"]) == (0, 1, None)


def test_clips_of_their_own_have_no_reason(project: Project) -> None:
    rows, receipt = split_photos(project, clips("a", *"pqrst") + clips("b", *"pqrst"))
    assert {row.group_reason for row in rows} == {""}
    assert (receipt["joined"]["groups"], receipt["joined"]["listed"]) == (0, [])


@pytest.mark.parametrize("protocol", ["random", "blocks"])
def test_protocols_that_divide_groups_join_nothing_by_names(project: Project, protocol: str) -> None:
    names = [f"GX{chapter:02}{number:04}" for number in range(3) for chapter in (1, 2)]
    rows = [
        replace(row, path=f"{row.path}.{late}.jpg", time_seconds=late + (row.time_seconds or 0))
        for row in clips("a", *names) + clips("b", *names)
        for late in range(0, 60, 2)
    ]
    placed, receipt = split_photos(project, rows, protocol=protocol)
    assert {row.group_reason for row in placed} == {""}
    assert OPTIMISTIC not in receipt["optimistic"]


def test_copies_of_a_frame_carry_the_reason_of_its_group(project: Project) -> None:
    rows = photos("a") + photos("b")
    manifest.write(rows, project.frames_csv)
    copies = [replace(row, path=f"{row.path}.0_rotate_90.jpg", parent=row.path, transform="rotate_90") for row in rows]
    manifest.write(copies, project.augmented_csv)
    split(params_of(project), project)
    assert {row.group_reason for row in manifest.read_split(project.split_csv)} == {BY_NAMES}


def test_the_same_bytes_are_a_reason_too(project: Project) -> None:
    rows = clips("a", *"pqrst") + clips("b", *"pqrst")
    twins = [replace(row, source_sha256="same") if row.source.endswith(("a/p.mp4", "a/q.mp4")) else row for row in rows]
    placed, _ = split_photos(project, twins)
    assert {row.group_reason for row in placed if "a/q" in row.path} == {"files of the same bytes"}


def test_the_closing_line_counts_what_was_joined(project: Project) -> None:
    manifest.write(photos("a") + photos("b"), project.frames_csv)
    manifest.write([], project.augmented_csv)
    headline = split(params_of(project), project).headline
    assert f"; 36 recordings joined to 12 groups; optimistic: {OPTIMISTIC}; " in headline


def test_joined_photos_keep_their_places(project: Project) -> None:
    rows = photos("a") + photos("b")
    before, _ = split_photos(project, rows, keep=True)
    after, receipt = split_photos(project, rows, keep=True, seed=7)
    assert {row.path: row.split for row in before} == {row.path: row.split for row in after}
    assert receipt["pins"] == {"pinned": 12, "new": 0, "gone": 0}
    assert len(project.split_keep_csv.read_text(encoding="utf-8").splitlines()) == 37  # a line for each photo


def test_too_few_groups_name_the_way_out(project: Project) -> None:
    with pytest.raises(DataError) as caught:
        split_photos(project, photos("a", 4) + photos("b", 4), folds=5)
    assert "split.photo_groups" in str(caught.value)


def test_the_lists_of_the_receipt_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined_module, "GROUPS_LISTED", 1)
    groups = tuple(JoinedGroup(name, "a", BY_NAMES, tuple(f"{name}{n}" for n in range(30))) for name in "pq")
    value = joined_module.Joined(groups, ("one", "two")).to_json()
    assert (value["groups"], value["recordings"], len(value["listed"]), len(value["left_apart"])) == (2, 60, 1, 1)
    assert (value["listed"][0]["recordings"], len(value["listed"][0]["sources"])) == (30, 20)
