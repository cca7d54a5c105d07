"""Copies of clips are found wherever they are trimmed and however encoded; two takes of one scene are no copies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.files import read_json
from pipeline.base.fingerprints import Fingerprint, fingerprint_path
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.split.near_duplicates import clip_copies as module
from pipeline.split.near_duplicates.clip_copies import (
    ClipCopy,
    _copy_at,
    _of_equal_contrast,
    confirm,
    find_clip_copies,
)
from pipeline.split.params import SplitParams
from pipeline.split.stage import split
from tests.support.moving_clips import Copy, film, fingerprint_of, write_copy
from tests.support.scenes import add_picture, scene
from tests.support.small_project import set_params

COPIES = [
    Copy(0.2), Copy(0.4, size=(120, 90)), Copy(0.6, mirrored=True), Copy(0.8, every=2), Copy(1.0, group=25),
    Copy(1.2, bitrate=60_000), Copy(1.4, size=(320, 240), every=2),
    Copy(1.6, mirrored=True, size=(160, 120)), Copy(1.9),
]  # fmt: skip
ORIGINAL = Copy(bitrate=400_000)


@pytest.fixture(scope="module")
def fingerprints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Fingerprint]:
    """Nine clips and a copy of each; and a second take of the first three scenes."""
    folder = tmp_path_factory.mktemp("clips")
    made = {}
    for number, copy in enumerate(COPIES):
        # A copy with a keyframe a second is decoded at its keyframes only, and needs some of them.
        frames = film(number, number, 6.0 if copy.group == 25 else 4.0)
        made[f"clip{number}"] = fingerprint_of(write_copy(frames, folder / f"clip{number}.mp4", ORIGINAL))
        made[f"copy{number}"] = fingerprint_of(write_copy(frames, folder / f"copy{number}.mp4", copy))
    for number in range(3):
        made[f"take{number}"] = fingerprint_of(
            write_copy(film(number, 50 + number), folder / f"take{number}.mp4", ORIGINAL)
        )
    return made


def rows_of(fingerprints: dict[str, Fingerprint], project: Project, label: str = "a") -> list[Row]:
    """A row for each clip, whose fingerprint is written."""
    rows = []
    for name, fingerprint in fingerprints.items():
        source = f"data/raw/{label}/{name}.mp4"
        path = fingerprint_path(source, project)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(fingerprint.to_bytes())
        rows.append(Row(f"data/frames/{label}/{name}.mp4/0.jpg", label, source, name, source, time_seconds=0.0))
    return rows


def test_nine_copies_of_nine_are_found_and_no_other_two_clips(
    fingerprints: dict[str, Fingerprint], project: Project
) -> None:
    search = find_clip_copies(rows_of(fingerprints, project), project)
    found = {tuple(Path(source).stem for source in copy.sources): copy for copy in search.copies}
    assert set(found) == {(f"clip{number}", f"copy{number}") for number in range(9)}
    for number, copy in enumerate(COPIES):
        confirmed = found[f"clip{number}", f"copy{number}"]
        assert confirmed.offset_seconds == pytest.approx(copy.skipped_seconds, abs=0.11)
        assert confirmed.mirrored is copy.mirrored
    assert (search.n_clips, search.n_without) == (21, 0)


def confirmed(first: Fingerprint, second: Fingerprint) -> ClipCopy | None:
    return confirm(("a", "b"), first, second)


def test_another_take_of_the_same_scene_is_no_copy(fingerprints: dict[str, Fingerprint]) -> None:
    for number in range(3):
        assert confirmed(fingerprints[f"clip{number}"], fingerprints[f"take{number}"]) is None
        assert confirmed(fingerprints[f"clip{number}"], fingerprints[f"clip{number}"]) is not None


def test_two_clips_in_which_the_light_alone_changes_are_no_copies() -> None:
    small = np.asarray(scene(0)[::11, ::15, 0][:16, :16], np.float64) / 2
    noise = np.random.default_rng(0)
    times = np.arange(30) * 100
    faded = [
        Fingerprint(
            times, np.uint8([small * (0.5 + frame / 60) + noise.uniform(-1, 1, (16, 16)) + 20 for frame in range(30)])
        )
        for _ in range(2)
    ]
    assert confirmed(faded[0], faded[1]) is None


@pytest.mark.parametrize("n_pictures", [0, 1, 3])
def test_too_few_pictures_confirm_nothing(fingerprints: dict[str, Fingerprint], n_pictures: int) -> None:
    whole = fingerprints["clip0"]
    few = Fingerprint(whole.milliseconds[:n_pictures], whole.pictures[:n_pictures])
    assert confirmed(whole, few) is None
    assert confirmed(few, whole) is None


def test_clips_of_one_group_are_not_compared_and_clips_without_fingerprint_are_counted(
    fingerprints: dict[str, Fingerprint], project: Project
) -> None:
    rows = rows_of({name: fingerprints[name] for name in ("clip0", "copy0")}, project)
    assert len(find_clip_copies(rows, project).copies) == 1
    search = find_clip_copies([replace(row, group="one") for row in rows], project)
    assert (search.n_proposed, search.copies) == (0, ())
    fingerprint_path(rows[0].source, project).unlink()
    search = find_clip_copies(rows, project)
    assert (search.n_clips, search.n_without, search.copies) == (1, 1, ())


@pytest.mark.parametrize("content", [b"", b"torn", b"\x93NUMPY\x01\x00"])
def test_a_broken_fingerprint_is_named(fingerprints: dict[str, Fingerprint], project: Project, content: bytes) -> None:
    rows = rows_of({name: fingerprints[name] for name in ("clip0", "copy0")}, project)
    fingerprint_path(rows[0].source, project).write_bytes(content)
    with pytest.raises(DataError, match=r"clip0\.mp4\.npy: not a fingerprint"):
        find_clip_copies(rows, project)


def _split(
    project: Project, fingerprints: dict[str, Fingerprint], **changes: object
) -> tuple[dict[str, str], dict[str, object]]:
    """Split six clips and the copies of two; the side of each clip by its name, and the receipt."""
    rows = []
    for number, name in enumerate(
        ["clip0", "clip1", "clip2", "clip3", "clip4", "clip5", "copy0", "copy1", "clip6", "clip7"]
    ):
        label = "a" if name in ("clip0", "clip2", "clip4", "copy0", "clip6") else "b"
        row = add_picture(project, name, scene(50 + number), label)
        source = f"data/raw/{label}/{name}.mp4"
        side = "test" if name in ("copy0", "copy1") else "train"
        rows.append(replace(row, source=source, group=source, source_sha256=name, time_seconds=0.0, given_split=side))
        rows_of({name: fingerprints[name]}, project, label)
    manifest.write(rows, project.frames_csv)
    manifest.write([], project.augmented_csv)
    set_params(project, split=changes)
    split(read_section(project.params_yaml, "split", SplitParams), project)
    side_of = {Path(row.source).stem: row.split for row in manifest.read_split(project.split_csv)}
    return side_of, read_json(project.split_json)


def test_a_copy_is_in_the_group_of_its_original(project: Project, fingerprints: dict[str, Fingerprint]) -> None:
    side_of, receipt = _split(project, fingerprints)
    assert side_of["clip0"] == side_of["copy0"]
    assert side_of["clip1"] == side_of["copy1"]
    assert receipt["merged_groups"] == [
        ["data/raw/a/clip0.mp4", "data/raw/a/copy0.mp4"], ["data/raw/b/clip1.mp4", "data/raw/b/copy1.mp4"],
    ]  # fmt: skip
    leakage = receipt["leakage"]
    assert isinstance(leakage, dict)
    copies = leakage["clip_copies"]
    assert [copies[name] for name in ("clips", "without_fingerprint", "confirmed", "across_sides")] == [10, 0, 2, 0]
    assert copies["pairs"][0]["sources"] == ["data/raw/a/clip0.mp4", "data/raw/a/copy0.mp4"]
    assert receipt["optimistic"] is None


def test_copies_in_the_folders_of_two_sides_are_said_to_flatter(
    project: Project, fingerprints: dict[str, Fingerprint]
) -> None:
    side_of, receipt = _split(project, fingerprints, protocol="given", val=None)
    assert (side_of["clip0"], side_of["copy0"]) == ("train", "test")
    assert receipt["optimistic"] == "2 pairs of copies of a clip on two sides of the split"


def test_a_copy_under_another_label_is_listed_and_not_merged(
    project: Project, fingerprints: dict[str, Fingerprint]
) -> None:
    rows = [
        replace(add_picture(project, name, scene(60 + number), label), source=f"data/raw/{label}/{name}.mp4",
                group=f"{label}/{name}", source_sha256=name, time_seconds=0.0)
        for number, (name, label) in enumerate(
            [("clip0", "a"), ("clip2", "a"), ("clip4", "a"), ("copy0", "b"), ("clip5", "b"), ("clip6", "b")]
        )
        if rows_of({name: fingerprints[name]}, project, label)
    ]  # fmt: skip
    manifest.write(rows, project.frames_csv)
    manifest.write([], project.augmented_csv)
    report = split(read_section(project.params_yaml, "split", SplitParams), project)
    assert "; WARNING: 1 copy of a clip with two labels; " in report.headline
    receipt = read_json(project.split_json)
    assert receipt["merged_groups"] == []
    assert receipt["leakage"]["clip_copies"]["pairs"][0]["labels"] == ["a", "b"]


def test_clips_that_have_no_picture_at_the_same_time_are_no_copies() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (12, 16, 16), dtype=np.uint8)
    times = np.arange(12) * 1000
    levels = _of_equal_contrast(Fingerprint(times, pictures))
    assert _copy_at(("a", "b"), levels, levels, 0.0) is not None
    apart = Fingerprint(times + 450, pictures)  # between the pictures of the first
    assert _copy_at(("a", "b"), levels, _of_equal_contrast(apart), 0.0) is None


def test_each_picture_of_two_clips_is_levelled_once_and_mirrored_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (12, 16, 16), dtype=np.uint8)
    clip, n_levelled = Fingerprint(np.arange(12) * 100, pictures), []

    def counted(fingerprint: Fingerprint) -> object:
        n_levelled.append(len(fingerprint.pictures))
        return _of_equal_contrast(fingerprint)

    monkeypatch.setattr(module, "_of_equal_contrast", counted)
    assert confirm(("a", "b"), clip, clip) is not None
    assert sum(n_levelled) == 3 * 12  # not again for each offset that is tried
