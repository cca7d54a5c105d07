"""The receipt of a split: its JSON to the letter, and the contradictions that it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.base import manifest
from pipeline.base.files import sha256_of
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.base.section import read_section
from pipeline.split import leaks
from pipeline.split.folds import no_folds
from pipeline.split.joined import Joined
from pipeline.split.kept.places import Kept
from pipeline.split.kept.table import Place
from pipeline.split.leaks import Found, NearDuplicates
from pipeline.split.near_duplicates.alignment import Alignment
from pipeline.split.near_duplicates.search import ConfirmedPair, SearchResult
from pipeline.split.params import SplitParams
from pipeline.split.receipt import ClassCounts, KnownGroups, PinCounts, SplitReceipt, make_receipt
from pipeline.split.stage import split
from tests.support.command import ROOT
from tests.support.small_project import without_search

DEFAULTS = without_search(read_section(ROOT / "params.yaml", "split", SplitParams))

SPLIT_JSON = """\
{
  "protocol": "grouped",
  "augmented_in_test": false,
  "optimistic": "one photograph per class, 一张",
  "asked": {
    "ratio": "8:2",
    "val": null,
    "rounding": "nearest",
    "counts": null,
    "folds": null,
    "fold": 0,
    "hold_out": null,
    "guard_seconds": 2.0,
    "group_pattern": null,
    "photo_groups": "propose",
    "seed": 0,
    "keep": false,
    "near_duplicates": {
      "search": false,
      "hash_bits": 4,
      "correlation": 0.7
    }
  },
  "achieved_ratio": {
    "train": 0.6,
    "test": 0.4
  },
  "counts": {
    "train": {
      "brick": {
        "frames": 2,
        "dropped": 0,
        "augmented": 2,
        "groups": 1
      },
      "砾石": {
        "frames": 1,
        "dropped": 0,
        "augmented": 1,
        "groups": 1
      }
    },
    "test": {
      "brick": {
        "frames": 1,
        "dropped": 0,
        "augmented": 0,
        "groups": 1
      },
      "砾石": {
        "frames": 1,
        "dropped": 1,
        "augmented": 0,
        "groups": 1
      }
    }
  },
  "frames_unused": 0,
  "augmented_unused": 2,
  "groups": {
    "train": [
      "brick/0",
      "砾石/2"
    ],
    "test": [
      "brick/2",
      "砾石/0"
    ]
  },
  "merged_groups": [
    [
      "brick/0",
      "brick/1"
    ]
  ],
  "joined": {
    "groups": 1,
    "recordings": 2,
    "photos": 0,
    "photos_unconfirmed": 0,
    "across_folders": 0,
    "left_apart": [],
    "listed": [
      {
        "group": "brick/0",
        "label": "brick",
        "reason": "files of the same bytes",
        "recordings": 2,
        "sources": [
          "data/raw/brick/0.mp4",
          "data/raw/brick/1.mp4"
        ]
      }
    ]
  },
  "pins": {
    "pinned": 0,
    "new": 4,
    "gone": 0
  },
  "sessions": null,
  "sessions_reason": "data/groups.csv names no session",
  "balance": null,
  "balance_reason": "every group has one label, and no session is held out",
  "folds": {
    "n_folds": 2,
    "groups": [
      2,
      2
    ]
  },
  "leakage": {
    "exact_duplicates": [],
    "label_conflicts": [],
    "near_duplicates": null,
    "near_duplicates_reason": "split.near_duplicates.search is false",
    "clip_copies": null,
    "clip_copies_reason": "split.near_duplicates.search is false",
    "same_clip_within_seconds": null,
    "same_clip_within_seconds_reason": "whole clips are on one side, so no two of their frames are apart"
  }
}
"""


def frame(label: str, clip: int, *, split: str = "", kept: bool = True, sha256: str = "") -> Row:
    return Row(
        path=f"data/frames/{label}/{clip}.jpg",
        label=label,
        source=f"data/raw/{label}/{clip}.mp4",
        source_sha256=sha256 or f"{label} {clip}",
        group=f"{label}/{clip}",
        time_seconds=float(clip),
        kept=kept,
        drop_reason="" if kept else "dark",
        split=split,
    )


def copy_of(row: Row) -> Row:
    return replace(row, path=f"data/augmented/{row.path}.0.jpg", parent=row.path, transform="rotate_90")


def pair_of(first: Row, second: Row, score: float) -> ConfirmedPair:
    return ConfirmedPair(first, second, Alignment(score, 0.9, 0.45678, mirrored=False))


NO_FOLDS = no_folds("not dealt")
PLACED = [
    frame("a", 0, split="train"),
    frame("a", 1, split="test"),
    frame("b", 2, split="test"),
    frame("b", 3, split="unused"),
]
PAIRS = (pair_of(PLACED[0], PLACED[1], 0.98765), pair_of(PLACED[1], PLACED[2], 0.9), pair_of(PLACED[2], PLACED[3], 0.8))


def receipt_of(**params: object) -> SplitReceipt:
    asked = DEFAULTS.model_copy(update=params)
    kept = Kept(side_of={"a/0": "train"}, without_clip=(Place("sha", "gone", "val"),))
    known = KnownGroups([["a/0", "old"]], kept, Joined(), NO_FOLDS, are_kept=True)
    return make_receipt(PLACED, asked, known, Found(SearchResult(PAIRS, 4, 9)))


def test_the_file_of_a_small_project_to_the_letter(project: Project) -> None:
    frames = [
        frame("brick", 0), frame("brick", 1, sha256="brick 0"), frame("brick", 2),
        frame("砾石", 0), frame("砾石", 1, kept=False), frame("砾石", 2),
    ]  # fmt: skip
    frames[4] = replace(frames[4], group=frames[3].group, source=frames[3].source, source_sha256="砾石 0")
    manifest.write(frames, project.frames_csv)
    manifest.write([copy_of(row) for row in frames if row.kept], project.augmented_csv)
    split(DEFAULTS.model_copy(update={"val": None, "caveat": "one photograph per class, 一张"}), project)
    written = json.loads(project.split_json.read_text(encoding="utf-8"))
    made_from: dict[str, str | None] = {
        "data/groups.csv": None,  # there is none
        "data/frames.csv": sha256_of(project.frames_csv),
        "data/augmented.csv": sha256_of(project.augmented_csv),
    }
    assert written.pop("made_from") == made_from
    assert written.pop("wrote")["data/split.csv"] == sha256_of(project.split_csv)
    assert len(written.pop("digest")) == 64
    assert json.dumps(written, ensure_ascii=False, indent=2) + "\n" == SPLIT_JSON


def test_near_duplicates_are_listed_with_their_sides_and_an_unused_picture_is_on_none() -> None:
    listed = [
        {"paths": ["data/frames/a/0.jpg", "data/frames/a/1.jpg"], "labels": ["a", "a"], "splits": ["train", "test"],
         "score": 0.988, "overlap": 0.457, "mirrored": False},
        {"paths": ["data/frames/a/1.jpg", "data/frames/b/2.jpg"], "labels": ["a", "b"], "splits": ["test", "test"],
         "score": 0.9, "overlap": 0.457, "mirrored": False},
        {"paths": ["data/frames/b/2.jpg", "data/frames/b/3.jpg"], "labels": ["b", "b"], "splits": ["test", "unused"],
         "score": 0.8, "overlap": 0.457, "mirrored": False},
    ]  # fmt: skip
    expected = {
        "exact_duplicates": [],
        "label_conflicts": [listed[1]],
        "near_duplicates": {
            "pictures": 4, "proposed": 9, "confirmed": 3, "across_sides": 1, "pairs": listed,
            "pairs_across_sides": [listed[0]],
        },
        "clip_copies": None,
        "clip_copies_reason": "split.near_duplicates.search is false",
        "same_clip_within_seconds": None,
        "same_clip_within_seconds_reason": "whole clips are on one side, so no two of their frames are apart",
    }  # fmt: skip
    leakage = receipt_of().to_json()["leakage"]
    assert leakage == expected
    assert list(leakage) == list(expected)
    assert list(leakage["near_duplicates"]) == list(expected["near_duplicates"])
    assert list(leakage["near_duplicates"]["pairs"][0]) == list(listed[0])


def test_the_lists_of_pairs_are_cut_and_the_counts_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "LISTED", 1)
    receipt = receipt_of()
    near_duplicates = receipt.to_json()["leakage"]["near_duplicates"]
    assert [len(near_duplicates[name]) for name in ("pairs", "pairs_across_sides")] == [1, 1]
    assert near_duplicates["confirmed"] == 3
    assert "WARNING: 1 near duplicate with two labels" in receipt.headline


@pytest.mark.parametrize("protocol", ["grouped", "given"])
def test_a_pair_across_sides_is_a_reason_to_call_the_numbers_optimistic(protocol: str) -> None:
    assert receipt_of(protocol=protocol).optimistic == "1 pair of near duplicates on two sides of the split"


def test_a_protocol_that_is_optimistic_anyway_names_the_pairs_too() -> None:
    at_random, pairs = str(receipt_of(protocol="random").optimistic).split("; ")
    assert at_random == "images were dealt out at random, whatever clip they are of"
    assert pairs == "1 pair of near duplicates on two sides of the split"


def test_pairs_on_one_side_unused_ones_and_those_of_two_labels_flatter_nothing() -> None:
    rows = [replace(row, split="test") if row.split == "train" else row for row in PLACED]
    placed = [*rows, frame("b", 4, split="train")]
    conflict = pair_of(rows[1], placed[-1], 0.9)
    search = SearchResult((*PAIRS, conflict), 5, 9)
    receipt = make_receipt(
        placed,
        DEFAULTS.model_copy(update={"protocol": "given"}),
        KnownGroups([], Kept(), Joined(), NO_FOLDS),
        Found(search),
    )
    near_duplicates = receipt.leakage.near_duplicates
    assert near_duplicates is not None
    assert [pair.is_across_sides for pair in near_duplicates.pairs] == [False, False, False, True]
    assert receipt.optimistic is None


def test_a_protocol_that_divides_clips_says_how_near_the_sides_come() -> None:
    leakage = receipt_of(protocol="random").to_json()["leakage"]
    assert leakage["same_clip_within_seconds"] == {"clips": 0, "nearest_seconds": None}
    assert leakage["same_clip_within_seconds_reason"] is None


def test_the_closing_line_has_sizes_pins_reason_and_conflicts() -> None:
    assert receipt_of(caveat="one photograph").headline == (
        "frames (groups): train 1 (1), test 2 (2); 1 group keeps its place, 3 new; "
        "optimistic: 1 pair of near duplicates on two sides of the split; one photograph; "
        "WARNING: 1 near duplicate with two labels; data/split.csv"
    )


def test_groups_without_a_place_are_new_and_lines_without_a_recording_are_gone() -> None:
    assert receipt_of().pins == PinCounts(pinned=3, new=1, gone=1, pinned_before=1)


def test_a_data_set_whose_frames_were_all_dropped_has_a_ratio_of_nothing() -> None:
    rows = [replace(row, kept=False) for row in PLACED]
    receipt = make_receipt(rows, DEFAULTS, KnownGroups([], Kept(), Joined(), NO_FOLDS), Found())
    assert receipt.to_json()["achieved_ratio"] == {"train": 0.0, "test": 0.0}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda _: ClassCounts(1, -1, 0, 1), "dropped is -1; expected 0 or more"),
        (lambda _: PinCounts(0, 0, -2), "gone is -2; expected 0 or more"),
        (lambda _: NearDuplicates(-1, 0, ()), "pictures is -1; expected 0 or more"),
        (lambda receipt: replace(receipt, frames_unused=-1), "frames_unused is -1; expected 0 or more"),
        (lambda receipt: replace(receipt.leakage.near_duplicates, proposed=2), "3 pairs confirmed of 2 proposed"),
        (lambda receipt: replace(receipt, groups={"train": ["a/0"]}), "expected the same sides"),
        (
            lambda receipt: replace(receipt, groups={"train": ["a/0"], "test": ["a/1"]}),
            "test: 2 groups counted, 1 named; expected the same number",
        ),
        (lambda receipt: replace(receipt, pins=PinCounts(1, 1, 0)), "for 3 groups; expected each group to be pinned"),
    ],
)
def test_a_receipt_that_contradicts_itself_is_refused(build: Callable[[Any], object], message: str) -> None:
    receipt = receipt_of()
    with pytest.raises(ValueError, match=message):
        build(receipt)
