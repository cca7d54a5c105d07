"""Near duplicates: planted copies are found whatever was done to them; a hash alone confirms nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.files import read_json
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.split.grouping import merge_groups
from pipeline.split.near_duplicates.candidates import CandidatePair, propose_by_hashes
from pipeline.split.near_duplicates.search import SearchResult, find_near_duplicates, pairs_to_merge, spread_over_groups
from pipeline.split.params import SplitParams
from pipeline.split.stage import split
from tests.support.scenes import CHANGES, add_picture, jpeg_40, scene
from tests.support.small_project import set_params

KNOWN_IN_STEEL = {
    ("crazing_271", "crazing_273"),
    ("pitted_surface_175", "pitted_surface_291"),
    ("patches_235", "patches_237"),
    ("rolled-in_scale_39", "rolled-in_scale_43"),
}


def _params(project: Project) -> SplitParams:
    return read_section(project.params_yaml, "split", SplitParams)


def _search(rows: Sequence[Row], project: Project) -> SearchResult:
    return find_near_duplicates(rows, _params(project).near_duplicates, project)


def _confirmed(search: SearchResult) -> set[tuple[str, str]]:
    return {(Path(pair.first.path).stem, Path(pair.second.path).stem) for pair in search.confirmed}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_found_and_nothing_else(project: Project, change: str) -> None:
    rows = [add_picture(project, f"scene{seed}", scene(seed)) for seed in range(6)]
    rows.append(add_picture(project, "copy", CHANGES[change](scene(2))))
    assert _confirmed(_search(rows, project)) == {("scene2", "copy")}


def test_pictures_with_one_hash_that_show_other_pixels_are_proposed_and_not_confirmed(project: Project) -> None:
    rows = [add_picture(project, f"scene{seed}", scene(seed)) for seed in range(2)]
    rows = [replace(row, phash="0123456789abcdef") for row in rows]
    assert propose_by_hashes(rows, 4) == [CandidatePair(0, 1)]
    assert _search(rows, project).confirmed == ()


def test_frames_of_one_clip_are_not_compared_with_one_another(project: Project) -> None:
    rows = [replace(add_picture(project, f"frame{number}", scene(0)), group="clip") for number in range(3)]
    assert _search(rows, project).n_proposed == 0


@pytest.mark.parametrize("sides", [(1, 1), (1, 3000), (3000, 1), (2, 2), (3000, 3), (3, 3000), (7, 3000)])
def test_a_picture_however_thin_is_compared(project: Project, sides: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*sides, 3), np.uint8)
    rows = [add_picture(project, name, noise) for name in ("one", "two")]
    assert _search(rows, project).n_pictures == 2


def test_a_flat_picture_is_a_duplicate_of_nothing(project: Project) -> None:
    rows = [add_picture(project, f"grey{number}", np.full((60, 80, 3), 90, np.uint8)) for number in range(2)]
    assert _search(rows, project).confirmed == ()


def test_copies_become_one_group_unless_their_labels_differ(project: Project) -> None:
    rows = [add_picture(project, "one", scene(0)), add_picture(project, "two", jpeg_40(scene(0)))]
    rows.append(add_picture(project, "three", jpeg_40(jpeg_40(scene(0))), label="b"))
    search = _search(rows, project)
    assert len(search.confirmed) == 3
    merged, _ = merge_groups(rows, pairs_to_merge(search, "grouped"))
    assert [row.group for row in merged] == ["a/one", "a/one", "b/three"]


def test_where_folders_give_the_sides_copies_in_those_of_one_side_become_one_group(project: Project) -> None:
    rows = [add_picture(project, name, jpeg_40(scene(0))) for name in ("one", "two", "three")]
    rows = [replace(row, given_split=side) for row, side in zip(rows, ("train", "train", "test"), strict=True)]
    search = _search(rows, project)
    assert len(search.confirmed) == 3
    merged, _ = merge_groups(rows, pairs_to_merge(search, "given"))
    assert [row.group for row in merged] == ["a/one", "a/one", "a/three"]


@pytest.mark.parametrize("protocol", ["random", "blocks"])
def test_nothing_is_merged_where_groups_may_be_divided(project: Project, protocol: str) -> None:
    rows = [add_picture(project, "one", scene(0)), add_picture(project, "two", jpeg_40(scene(0)))]
    assert pairs_to_merge(_search(rows, project), protocol) == []


def test_without_the_search_nothing_is_opened(project: Project) -> None:
    _split_with_copies(project)
    set_params(project, split={"near_duplicates": {"search": False, "hash_bits": 4, "correlation": 0.7}})
    shutil.rmtree(project.frames)
    split(_params(project), project)
    assert read_json(project.split_json)["leakage"]["near_duplicates"] is None


def test_a_missing_frame_is_named(project: Project) -> None:
    rows = [add_picture(project, "one", scene(0)), add_picture(project, "two", scene(1))]
    (project.root / rows[1].path).write_bytes(b"")
    with pytest.raises(DataError, match=r"two\.png: cannot be decoded"):
        _search(rows, project)


def _split_with_copies(project: Project) -> None:
    """Copies of half the pictures; what the names say of them is left out, so that the pixels decide."""
    set_params(project, split={"photo_groups": "each"})
    rows = [add_picture(project, f"scene{seed}", scene(seed), "ab"[seed % 2]) for seed in range(12)]
    rows += [add_picture(project, f"copy{seed}", jpeg_40(scene(seed)), "ab"[seed % 2]) for seed in range(10)]
    rows.append(add_picture(project, "odd", CHANGES["mirror"](scene(11)), "a"))
    manifest.write(rows, project.frames_csv)
    manifest.write([], project.augmented_csv)


def test_a_split_keeps_copies_on_one_side_and_lists_a_conflict_of_labels(project: Project) -> None:
    _split_with_copies(project)
    report = split(_params(project), project)
    side_of = {Path(row.path).stem: row.split for row in manifest.read_split(project.split_csv)}
    assert all(side_of[f"scene{seed}"] == side_of[f"copy{seed}"] for seed in range(10))
    leakage = read_json(project.split_json)["leakage"]
    assert leakage["near_duplicates"]["confirmed"] == 11
    assert [sorted(pair["labels"]) for pair in leakage["label_conflicts"]] == [["a", "b"]]
    assert leakage["label_conflicts"][0]["mirrored"]
    assert "WARNING: 1 near duplicate" in report.headline
    assert cv2.imread(str(project.near_duplicates_png)).shape[0] > 100


def test_copies_across_sides_are_listed_where_groups_are_not_merged(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    _split_with_copies(project)
    monkeypatch.setattr("pipeline.split.near_duplicates.search.WHOLE_GROUPS", ())
    split(_params(project), project)
    receipt = read_json(project.split_json)["leakage"]["near_duplicates"]
    assert receipt["across_sides"] == len(receipt["pairs_across_sides"]) > 0
    assert (
        receipt["pairs"][: receipt["across_sides"]] == receipt["pairs_across_sides"]
    )  # and so the sheet draws them first
    assert receipt["confirmed"] > receipt["across_sides"]
    assert all(pair["splits"][0] != pair["splits"][1] for pair in receipt["pairs_across_sides"])


def test_copies_in_the_folders_of_two_sides_make_the_numbers_optimistic(project: Project) -> None:
    _split_with_copies(project)
    rows = manifest.read(project.frames_csv)
    for side_of_copies, reason in (
        ("test", "10 pairs of near duplicates on two sides of the split"),
        ("train", ""),
    ):
        given = [
            replace(
                row, given_split=side_of_copies if "copy" in row.path or row.path.endswith("scene10.png") else "train"
            )
            for row in rows
        ]
        given += [
            replace(add_picture(project, f"held{label}", scene(20 + seed), label), given_split="test")
            for seed, label in enumerate("ab")
        ]
        manifest.write(given, project.frames_csv)
        set_params(project, split={"protocol": "given", "val": None})
        split(_params(project), project)
        optimistic = read_json(project.split_json)["optimistic"]
        assert optimistic.startswith(reason)
        assert ("near duplicates" in optimistic) == bool(reason)  # the rest is about photos that nobody confirmed


def test_a_copy_that_is_unused_is_on_no_side(project: Project) -> None:
    _split_with_copies(project)
    counts = {"train": 4, "val": 0, "test": 4}  # of the 11 and 12 pictures of a class
    set_params(project, split={"protocol": "random", "counts": counts})
    split(_params(project), project)
    receipt = read_json(project.split_json)["leakage"]["near_duplicates"]
    apart = [set(pair["splits"]) for pair in receipt["pairs"] if len(set(pair["splits"])) == 2]
    assert {"train", "test"} in apart
    assert any("unused" in sides for sides in apart)
    assert [set(pair["splits"]) for pair in receipt["pairs_across_sides"]] == [{"train", "test"}] * receipt[
        "across_sides"
    ]
    assert receipt["across_sides"] == apart.count({"train", "test"})


def test_the_same_frames_give_the_same_receipt_and_picture(project: Project) -> None:
    _split_with_copies(project)
    outputs = []
    for _ in range(2):
        split(_params(project), project)
        outputs.append((project.split_json.read_bytes(), project.near_duplicates_png.read_bytes()))
    assert outputs[0] == outputs[1]


def test_scenes_without_copies_have_no_near_duplicates(project: Project) -> None:
    rows = [add_picture(project, f"scene{seed}", scene(seed), "ab"[seed % 2]) for seed in range(8)]
    manifest.write(rows, project.frames_csv)
    manifest.write([], project.augmented_csv)
    split(_params(project), project)
    assert read_json(project.split_json)["leakage"]["near_duplicates"]["confirmed"] == 0
    assert cv2.imread(str(project.near_duplicates_png)).shape[0] < 100  # the heading alone


def _paths(shared: Path, pattern: str) -> list[Path]:
    return sorted((shared / "data").glob(pattern))


def _photos(paths: Iterable[Path], project: Project) -> list[Row]:
    return [add_picture(project, path.stem, cv2.imread(str(path)), path.parent.name) for path in paths]


@pytest.mark.slow
def test_the_four_known_pairs_of_steel_are_confirmed(shared: Path, project: Project) -> None:
    names = {name for pair in KNOWN_IN_STEEL for name in pair}
    paths = [path for path in _paths(shared, "neu_surface/*/*.jpg") if path.stem in names]
    assert _confirmed(_search(_photos(paths, project), project)) >= KNOWN_IN_STEEL


@pytest.mark.slow
def test_no_two_fish_are_taken_for_one(shared: Path, project: Project) -> None:
    rows = [
        replace(row, group=Path(row.path).stem.split("_frame")[0])
        for row in _photos(_paths(shared, "fish/*/*.png"), project)
    ]
    search = _search(rows, project)
    assert search.n_proposed > 100  # hashes and features do mistake them
    assert search.confirmed == ()


@pytest.mark.slow
def test_planted_copies_among_real_photos_are_found_and_no_other_pair(shared: Path, project: Project) -> None:
    paths = _paths(shared, "cats_dogs/*/*.jpg")[::3] + _paths(shared, "lfw_top20/*/*.jpg")[::20]
    rows = _photos(paths, project)
    expected = set()
    for position, row in enumerate(rows[::5]):
        name, change = list(CHANGES.items())[position % len(CHANGES)]
        stem = f"{Path(row.path).stem} {name}"
        rows.append(add_picture(project, stem, change(cv2.imread(str(project.root / row.path))), row.label))
        expected.add((Path(row.path).stem, stem))
    confirmed = _confirmed(_search(rows, project))
    assert len(confirmed & expected) >= 0.95 * len(expected)
    assert len(confirmed & expected) >= 0.95 * len(confirmed)


def test_of_more_photos_than_are_looked_at_every_part_of_the_list_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.split.near_duplicates.search.MOST_PICTURES", 10)
    rows = [Row(f"{n:02}.jpg", "class", f"{n:02}.jpg", "0" * 64, f"{n:02}.jpg") for n in range(25)]
    assert spread_over_groups(rows) == [0, 3, 6, 9, 12, 15, 18, 21, 24]
