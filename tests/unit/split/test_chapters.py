"""Chapters: clips that are one recording by GoPro's and DJI's names, or by times that follow one another."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import PurePosixPath

import pytest

from pipeline.base.manifest import Row
from pipeline.split.chapters import BY_NAME, BY_TIME, recording_of
from pipeline.split.grouping import merge_groups
from pipeline.split.proposals import propose

START = datetime(2024, 5, 3, 12, 0, 0)


def clip(name: str, *, seconds: float | None = None, length: int = 3, camera: str = "") -> list[Row]:
    """The frames of a clip, one a second; `seconds` after a start is when `camera` began it."""
    source = f"data/raw/{name}"
    began = "" if seconds is None else (START + timedelta(seconds=seconds)).isoformat()
    return [
        Row(
            f"data/frames/{name}/{number:06}.jpg", name.split("/", maxsplit=1)[0], source, source, source,
            time_seconds=float(number), recorded_at=began, camera=camera,
        )
        for number in range(length)
    ]  # fmt: skip


def joined(*clips: list[Row]) -> tuple[list[list[str]], set[str]]:
    rows = [row for frames in clips for row in frames]
    proposals = propose(rows, frozenset(), photos=False, within_given=False)
    merged, _ = merge_groups(rows, links=proposals.links)
    sources: dict[str, set[str]] = {}
    for row in merged:
        sources.setdefault(row.group, set()).add(PurePosixPath(row.source).stem)
    groups = sorted(sorted(names) for names in sources.values() if len(names) > 1)
    return groups, {link.reason for link in proposals.links}


@pytest.mark.parametrize(
    "names", ["GX{chapter:02}{number:04}", "GH{chapter:02}{number:04}", "DJI_{number:04}_{chapter:03}"]
)
def test_of_twelve_recordings_in_two_chapters_none_is_apart(names: str) -> None:
    clips = [
        clip(f"{'ab'[number % 2]}/{names.format(number=number, chapter=chapter)}.MP4")
        for number in range(12)
        for chapter in (1, 2)
    ]
    groups, reasons = joined(*clips)
    assert [len(group) for group in groups] == [2] * 12
    assert reasons == {BY_NAME}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a/GOPR0034", "a/GP010034"),
        ("a/gopr0034", "a/gp020034"),
        ("a/GX010034_small", "a/GX020034_small"),
        ("a/DJI_20231015143210_0021_D_001", "a/DJI_20231015143210_0021_D_002"),
    ],
)
def test_other_names_of_chapters(first: str, second: str) -> None:
    assert len(joined(clip(f"{first}.mp4"), clip(f"{second}.mp4"))[0]) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a/GX010034", "a/GX010035"),
        ("a/GX010034", "a/GH020034"),
        ("a/GX010034", "b/GX020034"),
        ("a/one/GX010034", "a/two/GX020034"),
        ("a/GOPR0034", "a/GOPR0035"),
        ("a/GX010034_small", "a/GX020034"),
        ("a/DJI_0021", "a/DJI_0022"),
        ("a/IMG_0021", "a/IMG_0022"),
        ("a/GX0100341", "a/GX0200341"),
    ],
)
def test_names_of_two_recordings(first: str, second: str) -> None:
    assert joined(clip(f"{first}.mp4"), clip(f"{second}.mp4")) == ([], set())


def test_two_cameras_that_use_one_number_are_apart() -> None:
    assert joined(clip("a/GX010034.MP4", camera="HERO7"), clip("a/GX020034.MP4", camera="HERO9"))[0] == []


def test_a_clip_that_begins_where_one_of_the_same_camera_ends_is_its_next_chapter() -> None:
    first = clip("a/GRMN0001.MP4", seconds=0, length=60, camera="Garmin 55")
    second = clip("a/GRMN0002.MP4", seconds=60, length=60, camera="Garmin 55")
    third = clip("a/GRMN0003.MP4", seconds=120, length=10, camera="Garmin 55")
    assert joined(third, first, second) == ([["GRMN0001", "GRMN0002", "GRMN0003"]], {BY_TIME})


@pytest.mark.parametrize(
    ("begins", "is_next"), [(58, True), (61, True), (57, False), (62, False), (0, False), (600, False)]
)
def test_the_time_between_two_chapters(begins: float, is_next: bool) -> None:
    first = clip("a/one.mp4", seconds=0, length=60, camera="Garmin 55")  # ends between 59 and 60 s
    second = clip("a/two.mp4", seconds=begins, length=60, camera="Garmin 55")
    assert bool(joined(first, second)[0]) == is_next


def test_clips_of_two_cameras_or_of_none_are_apart_whatever_their_times() -> None:
    one = clip("a/one.mp4", seconds=0, length=60, camera="Garmin 55")
    assert joined(one, clip("a/two.mp4", seconds=60, camera="Garmin 66"))[0] == []
    assert joined(clip("a/one.mp4", seconds=0, length=60), clip("a/two.mp4", seconds=60))[0] == []


def test_the_name_of_a_dash_cam_stands_for_its_camera() -> None:
    front = [clip(f"a/2024_0503_1200{second:02}_{number:04}F.MP4", seconds=second, length=30)
             for number, second in enumerate((0, 30))]  # fmt: skip
    rear = clip("a/2024_0503_120030_0001R.MP4", seconds=30, length=30)
    groups, reasons = joined(*front, rear)
    assert groups == [["2024_0503_120000_0000F", "2024_0503_120030_0001F"]]
    assert reasons == {BY_TIME}


@pytest.mark.parametrize("name", ["walk", "GX0034", "GX01003", "GOPR", "DJI_0021", ""])
def test_a_name_without_a_chapter(name: str) -> None:
    assert recording_of(name) == ""
