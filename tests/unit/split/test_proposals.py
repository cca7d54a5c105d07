"""Which photos are proposed to show one object: bursts, Live Photos, names and times, and what is left apart."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.manifest import Row
from pipeline.split.grouping import merge_groups
from pipeline.split.proposals import (
    BURST,
    LIVE_PHOTO,
    NAMES,
    SURE_SECONDS,
    Proposals,
    counter_in,
    longest_pause,
    propose,
)

START = datetime(2024, 5, 3, 12, 0, 0)


def photo(name: str, *, seconds: float | None = None, camera: str = "Canon EOS 7D", **values: str) -> Row:
    """A photo data/raw/<class>/<name>; `seconds` after a start is when `camera` took it."""
    source = f"data/raw/{name}"
    taken = "" if seconds is None else (START + timedelta(seconds=seconds)).isoformat()
    row = Row(f"data/frames/{name}.jpg", name.split("/", maxsplit=1)[0], source, source, source, recorded_at=taken)
    return replace(row, camera=camera if taken else "", **values)


def proposed(
    rows: Sequence[Row], confirmed: Iterable[str] = (), *, photos: bool = True, within_given: bool = False
) -> Proposals:
    return propose(rows, frozenset(confirmed), photos=photos, within_given=within_given)


def groups_of(rows: Sequence[Row], proposals: Proposals) -> list[list[str]]:
    """The file names of each group of several sources, sorted."""
    merged, _ = merge_groups(rows, links=proposals.links)
    sources: dict[str, set[str]] = {}
    for row in merged:
        sources.setdefault(row.group, set()).add(PurePosixPath(row.source).stem)
    return sorted(sorted(names) for names in sources.values() if len(names) > 1)


def others(label: str, n: int = 6) -> list[Row]:
    """Photos that no rule joins."""
    return [photo(f"{label}/{letter * 3}.jpg") for letter in "qrstuvwxyz"[:n]]


def test_thirty_photos_re_shot_of_ten_objects_come_out_as_ten_groups() -> None:
    generator = random.Random(0)
    rows = [
        photo(f"{'ab'[object_ // 5]}/{generator.random()}.jpg".replace("0.", "x"), seconds=90 * object_ + 3 * shot)
        for object_ in range(10)
        for shot in range(3)
    ]
    generator.shuffle(rows)
    proposals = proposed(rows)
    groups = groups_of(rows, proposals)
    assert [len(group) for group in groups] == [3] * 10
    assert {link.reason for link in proposals.links} == {"times of one camera, at most 3 s apart"}
    assert groups_of(rows, proposed(rows, photos=False)) == []


def test_photos_of_another_camera_class_or_kind_of_clock_are_not_joined() -> None:
    rows = [
        photo("a/one.jpg", seconds=0), photo("a/two.jpg", seconds=1, camera="Nikon D90"),
        photo("b/three.jpg", seconds=2), photo("a/four.jpg", seconds=3),
        replace(photo("a/five.jpg", seconds=4), recorded_at="2024-05-03T12:00:04+02:00"),
        photo("a/six.jpg"), replace(photo("a/seven.jpg", seconds=3), camera=""), *others("a"), *others("b"),
    ]  # fmt: skip
    assert proposed(rows).links == ()


def test_a_walk_that_holds_most_of_a_class_is_left_apart_and_said() -> None:
    rows = [photo(f"a/{letter}.jpg", seconds=4 * place) for place, letter in enumerate("bcdefgh")] + others("a", 5)
    proposals = proposed(rows)
    assert proposals.links == ()
    assert len(proposals.left_apart) == 1
    assert proposals.left_apart[0].startswith(
        "7 of the 12 photos of 'a' (times of one camera, at most 10 s apart: Canon"
    )


@pytest.mark.parametrize(
    ("pauses", "longest"),
    [
        ([], SURE_SECONDS),
        ([2, 3, 2, 90, 120], 3),
        ([20, 18, 300, 86400], 20),
        ([4, 5, 6, 7, 8, 9, 11, 12], SURE_SECONDS),
        ([40, 86400], SURE_SECONDS),
        ([0, 0, 0.2, 1, 4, 14], SURE_SECONDS),
        ([0, 0, 4, 15], 4),
    ],
)
def test_the_break_between_objects(pauses: list[float], longest: float) -> None:
    assert longest_pause(pauses) == longest


def test_a_burst_is_one_group_whatever_the_names() -> None:
    rows = [photo(f"a/{name}.jpg", burst="burst=12345678") for name in ("one", "two", "drei")]
    rows += [photo("b/vier.jpg", burst="burst=12345678"), *others("a"), *others("b")]
    proposals = proposed(rows)
    assert groups_of(rows, proposals) == [["drei", "one", "two"]]
    assert {link.reason for link in proposals.links} == {BURST}


def test_the_photo_and_the_clip_of_a_live_photo_are_one_group() -> None:
    clip = Row("f/0.jpg", "a", "data/raw/a/m.mov", "1", "data/raw/a/m.mov", time_seconds=0.0, burst="live=12345678")
    rows = [photo("a/still.heic", burst="live=12345678"), clip, replace(clip, path="f/1.jpg", time_seconds=1.0)]
    rows += others("a")
    proposals = proposed(rows)
    assert groups_of(rows, proposals) == [["m", "still"]]
    assert {link.reason for link in proposals.links} == {LIVE_PHOTO}


def test_names_that_differ_in_their_last_number_only_are_one_group() -> None:
    names = [
        "7_fish1_frame10",
        "7_fish1_frame9",
        "7_fish2_frame10",
        "8_fish1_frame3",
        "8_fish1_frame4",
        "9_fish1_frame1",
    ]
    rows = [photo(f"a/{name}.png") for name in names]
    proposals = proposed(rows)
    assert groups_of(rows, proposals) == [["7_fish1_frame10", "7_fish1_frame9"], ["8_fish1_frame3", "8_fish1_frame4"]]
    assert {link.reason for link in proposals.links} == {NAMES}


def test_frames_of_clips_in_folders_of_their_own_are_one_group_each() -> None:
    rows = [photo(f"a/{clip}/frame_{number:04}.jpg") for clip in ("c1", "c2", "c3", "c4") for number in range(5)]
    merged, _ = merge_groups(rows, links=proposed(rows).links)
    assert len({row.group for row in merged}) == 4


@pytest.mark.parametrize(
    "names",
    [
        [f"cat.{number}" for number in range(1, 200, 3)],
        [f"{number}" for number in range(40)],
        [f"photo ({number})" for number in range(40)],
        [f"cat{number}" for number in range(20)] + [f"kitten{number}" for number in range(20)],
        [f"{site}_cat{number}" for site in ("flickr", "web", "own") for number in range(30)],
        [f"cat{number}" for number in range(45)] + [f"kitten{number}" for number in range(45)] + [*"pqrstuvwxy"],
    ],
)
def test_the_numbering_of_a_data_set_is_left_apart_and_said(names: Sequence[str]) -> None:
    rows = [photo(f"a/{name}.jpg") for name in names] + [photo(f"b/x{number}_{number}.jpg") for number in range(5)]
    proposals = proposed(rows)
    assert proposals.links == ()
    assert len(proposals.left_apart) == 1
    assert "photos of 'a'" in proposals.left_apart[0]
    assert proposals.left_apart[0].endswith("look like the numbering of a data set")


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("fish7_frame12", ("fish7_frame", "")),
        ("obj3-2-front", ("obj3-", "-front")),
        ("20230101_123456_001", ("20230101_123456_", "")),
        ("frame0001", ("frame", "")),
        ("IMG_0412", None),
        ("IMG_E0412", None),
        ("DSC01234", None),
        ("DSCN0001", None),
        ("P1010001", None),
        ("IMG_0412-edited", None),
        ("IMG-20230405-WA0012", None),
        ("PXL_20230405_123456789", None),
        ("20230405_123456", None),
        ("IMG_20230405_123456", None),
        ("2023-04-05 12.34.56", None),
        ("116570827_e9c126745d", ("116570827_e9c", "d")),
        ("1225872729", None),
        ("cat", None),
    ],
)
def test_what_counts_pictures_in_a_name(stem: str, expected: tuple[str, str] | None) -> None:
    assert counter_in(stem) == expected


def test_a_person_may_say_no() -> None:
    rows = [photo(f"a/obj1_{number}.jpg", seconds=number, burst="burst=12345678") for number in range(3)] + others("a")
    named = rows[1].source
    assert groups_of(rows, proposed(rows)) == [["obj1_0", "obj1_1", "obj1_2"]]
    proposals = proposed(rows, [named])
    assert groups_of(rows, proposals) == [["obj1_0", "obj1_2"]]
    assert named not in {group for link in proposals.links for group in (link.first, link.second)}


def test_folders_of_two_sides_are_not_joined_where_the_folders_give_the_sides() -> None:
    rows = [
        photo(f"a/obj{number}_{shot}.jpg", given_split="train" if shot else "test")
        for number in range(8)
        for shot in range(3)
    ]
    assert groups_of(rows, proposed(rows))[0] == ["obj0_0", "obj0_1", "obj0_2"]
    assert groups_of(rows, proposed(rows, within_given=True))[0] == ["obj0_1", "obj0_2"]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.integers(0, 9), st.integers(0, 200)),
        min_size=1, max_size=40, unique_by=lambda item: item[:3],
    ),
    st.randoms(),
)  # fmt: skip
def test_the_order_of_the_rows_does_not_matter_and_classes_stay_apart(
    photos: list[tuple[str, int, int, int]], generator: random.Random
) -> None:
    rows = [photo(f"{label}/obj{obj}_{shot}.jpg", seconds=seconds) for label, obj, shot, seconds in photos]
    proposals = proposed(rows)
    shuffled = generator.sample(rows, len(rows))
    assert proposed(shuffled) == proposals
    label_of = {row.group: row.label for row in rows}
    assert all(label_of[link.first] == label_of[link.second] for link in proposals.links)


def test_real_tracks_of_fish_are_recovered_exactly_by_their_names(shared: Path) -> None:
    rows = _photos_in(shared / "data" / "fish")
    merged, _ = merge_groups(rows, links=proposed(rows).links)
    tracks = {(row.group, row.source.rsplit("_frame", 1)[0]) for row in merged}
    assert len(tracks) == len({group for group, _ in tracks}) == len({track for _, track in tracks}) == 76


@pytest.mark.parametrize("name", ["lfw_top20", "cats_dogs", "hymenoptera/train", "neu_surface"])
def test_real_photos_that_a_data_set_numbers_stay_apart(shared: Path, name: str) -> None:
    rows = _photos_in(shared / "data" / name)
    assert proposed(rows).links == ()


def _photos_in(folder: Path) -> list[Row]:
    return [photo(path.relative_to(folder).as_posix()) for path in sorted(folder.rglob("*")) if path.is_file()]
