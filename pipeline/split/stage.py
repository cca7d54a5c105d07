"""Which groups train and which are held out: whole groups unless asked otherwise, and a receipt that says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base import manifest
from pipeline.base.errors import DataError
from pipeline.base.files import read_json, write_json
from pipeline.base.leakage import (
    clips_across_sides,
    exact_duplicates_across_sides,
    read_split_without_leaks,
    refuse_label_conflicts,
    refuse_leaks,
)
from pipeline.base.manifest import UNUSED, Row, class_names
from pipeline.base.project import Project
from pipeline.split.grouping import merge_groups, read_pins, regroup, write_pins
from pipeline.split.near_duplicates.search import (
    Search,
    across_sides_first,
    find_near_duplicates,
    pairs_to_merge,
    search_receipt,
)
from pipeline.split.near_duplicates.sheet import draw_pairs
from pipeline.split.params import SplitParams
from pipeline.split.protocols import assign_sides, why_optimistic


@dataclass(frozen=True)
class SplitReport:
    """What `split` made."""

    frames: Mapping[str, int]  # kept frames of train, val and test
    groups: Mapping[str, int]
    pins: Mapping[str, int]  # groups that were pinned, new ones, and pins whose group is gone
    optimistic: str | None
    split_csv: str  # relative to the project
    label_conflicts: int  # near duplicates with two labels

    @property
    def headline(self) -> str:
        """The closing line: sizes of the sides, what was pinned, why they flatter, and where the split is."""
        sides = [f"{side} {self.frames[side]} ({self.groups[side]})" for side in self.frames]
        pins = f"; {self.pins['pinned']} groups pinned, {self.pins['new']} new" if self.pins["pinned"] else ""
        optimistic = f"; optimistic: {self.optimistic}" if self.optimistic else ""
        conflicts = f"; WARNING: {self.label_conflicts} near duplicates have two labels" if self.label_conflicts else ""
        return f"frames (groups): {', '.join(sides)}{pins}{optimistic}{conflicts}; {self.split_csv}"


@dataclass(frozen=True)
class FreezeReport:
    """What `freeze` wrote."""

    n_groups: int
    split_keep_csv: str  # relative to the project

    @property
    def headline(self) -> str:
        """The closing line."""
        return f"{self.n_groups} groups pinned to their sides in {self.split_keep_csv}; commit it"


def split(params: SplitParams, project: Project) -> SplitReport:
    """Say of every image whether it trains or is held out, by the protocol that was asked for.

    Reads the frame and augmentation manifests and what the person says of groups; writes the split manifest and its
    receipt. A frame that screening dropped gets a side too; an augmented image is in train with its parent, or
    `unused`.

    Raises:
        DataError: a manifest is missing or stale, a recording has two labels, there is one class only, or a class
            has too few groups; the message says how many to film.
        LeakageError: something would sit on two sides; the receipt has been written.
    """
    frames = manifest.read(project.frames_csv)
    copies = manifest.read(project.augmented_csv, empty_is_fine=True)
    frames = regroup(frames, project.groups_csv, params.group_pattern)
    _refuse_one_class(frames, project.frames_csv)
    refuse_label_conflicts(frames, project.frames_csv)
    search = _search(frames, params, project)
    frames, merged = merge_groups(frames, pairs_to_merge(search, params.protocol))
    parents = _parents(copies, frames, project.augmented_csv)
    pins = _pins(params, project, merged)
    side_of = assign_sides(frames, copies, params, pins, project.frames_csv)
    search = across_sides_first(search, side_of)
    with manifest.paused_garbage_collection():
        rows = [frame.placed(frame.group, side_of[frame.path]) for frame in frames]
        rows += [copy.placed(parents[copy.parent].group, side_of[copy.path]) for copy in copies]
    receipt = _receipt(rows, merged, pins, params) | {"leakage": _leakage(rows, search, params)}
    draw_pairs(search, project)
    project.split_csv.unlink(missing_ok=True)  # the old one must not stand beside the new receipt, whatever follows
    write_json(project.split_json, receipt)
    refuse_leaks(rows, params.protocol, augmented_in_test=params.augmented_in_test)
    manifest.write_split(rows, project.split_csv)
    return _report(receipt, project)


def freeze(project: Project) -> FreezeReport:
    """Pin the groups of `data/split.csv` to their sides, in `data/split.keep.csv`; earlier pins stay.

    Raises:
        DataError: there is no split, or it is not one of whole groups that stay where they are.
    """
    rows = read_split_without_leaks(project)
    receipt = read_json(project.split_json)
    if receipt["protocol"] != "grouped" or receipt["asked"]["folds"]:
        raise DataError(
            f"{project.split_json}: protocol {receipt['protocol']}, folds {receipt['asked']['folds']}; "
            "only a grouped split without folds can be frozen"
        )
    side_of = {row.group: row.split for row in rows if row.split != UNUSED}
    # Each name of a merged group is pinned: the recording that gave the name may be deleted.
    twins = {name: side_of[names[0]] for names in receipt["merged_groups"] for name in names if names[0] in side_of}
    write_pins(read_pins(project.split_keep_csv) | side_of | twins, project.split_keep_csv)
    return FreezeReport(len(side_of), project.relative(project.split_keep_csv))


def _search(frames: Sequence[Row], params: SplitParams, project: Project) -> Search | None:
    """What looks alike in different groups; None when the params ask for no search."""
    if not params.near_duplicates.search:
        return None
    known, _ = merge_groups(frames)  # the same recording under two names needs no looking at
    return find_near_duplicates(known, params.near_duplicates, project)


def _refuse_one_class(frames: Iterable[Row], place: Path) -> None:
    labels = class_names(frames)
    if len(labels) < 2:
        raise DataError(f"{place}: one class only, {labels[0]!r}; expected at least two, add clips of another")


def _parents(copies: Iterable[Row], frames: Iterable[Row], place: Path) -> dict[str, Row]:
    """The kept frames by path, after a look that every copy was made from one of them."""
    by_path = {frame.path: frame for frame in frames if frame.kept}
    for copy in copies:
        parent = by_path.get(copy.parent)
        if parent is None or (parent.label, parent.source_sha256) != (copy.label, copy.source_sha256):
            raise DataError(
                f"{place}: {copy.path} was made from {copy.parent or 'no frame'}, "
                "which the frames do not have (any more); run `pipe augment` again"
            )
    return by_path


def _pins(params: SplitParams, project: Project, merged: Sequence[Sequence[str]]) -> dict[str, str]:
    """The pinned groups; none where the protocol divides groups, or holds out each of them in turn."""
    pins = read_pins(project.split_keep_csv, merged)
    if params.protocol != "grouped" or params.folds is not None:
        return {}
    has_val = params.val is not None if params.counts is None else params.counts.val > 0
    if "val" in pins.values() and not has_val:
        raise DataError(f"{project.split_keep_csv}: groups are pinned to val; the split that is asked for has no val")
    return pins


def _receipt(
    rows: Sequence[Row], merged: list[list[str]], pins: Mapping[str, str], params: SplitParams
) -> dict[str, Any]:
    """What `reports/split.json` says."""
    present = {row.split for row in rows}
    by_side = {side: [row for row in rows if row.split == side] for side in manifest.SPLITS if side in present}
    unused = by_side.pop(UNUSED, [])
    counts = {side: _counts(found, class_names(rows)) for side, found in by_side.items()}
    frames = {side: sum(of_class["frames"] for of_class in counts[side].values()) for side in by_side}
    groups = {row.group for row in rows}
    return {
        "protocol": params.protocol,
        "augmented_in_test": params.augmented_in_test,
        "optimistic": why_optimistic(params),
        "asked": params.model_dump(exclude={"protocol", "augmented_in_test", "caveat"}),
        "achieved_ratio": {side: round(number / (sum(frames.values()) or 1), 6) for side, number in frames.items()},
        "counts": counts,
        "frames_unused": sum(not row.is_copy for row in unused),
        "augmented_unused": sum(row.is_copy for row in unused),
        "groups": {side: sorted({row.group for row in found}) for side, found in by_side.items()},
        "merged_groups": merged,
        "pins": {
            "pinned": len(groups & pins.keys()),
            "new": len(groups - pins.keys()),
            "gone": len(pins.keys() - groups),
        },
    }


def _leakage(rows: Sequence[Row], search: Search | None, params: SplitParams) -> dict[str, Any]:
    """What the receipt says of pictures that are, or look, alike."""
    return {
        "exact_duplicates": exact_duplicates_across_sides(rows),
        **search_receipt(search, rows),
        **_neighbourhood(rows, params),
    }


def _neighbourhood(rows: Sequence[Row], params: SplitParams) -> dict[str, Any]:
    """How near in time the sides come to one another within clips, where the protocol divides clips."""
    if params.protocol in ("grouped", "given"):
        reason = "whole clips are on one side, so no two of their frames are apart"
        return {"same_clip_within_seconds": None, "same_clip_within_seconds_reason": reason}
    return {"same_clip_within_seconds": clips_across_sides(rows), "same_clip_within_seconds_reason": None}


def _counts(rows: Sequence[Row], labels: Iterable[str]) -> dict[str, dict[str, int]]:
    """One side, per class: kept frames, frames that screening dropped, augmented images, groups."""
    images = Counter((row.label, _kind(row)) for row in rows)
    groups = Counter(label for label, _ in {(row.label, row.group) for row in rows})
    return {
        label: {kind: images[label, kind] for kind in ("frames", "dropped", "augmented")} | {"groups": groups[label]}
        for label in labels
    }


def _kind(row: Row) -> str:
    if row.is_copy:
        return "augmented"
    return "frames" if row.kept else "dropped"


def _report(receipt: Mapping[str, Any], project: Project) -> SplitReport:
    frames = {
        side: sum(of_class["frames"] for of_class in counts.values()) for side, counts in receipt["counts"].items()
    }
    groups = {side: len(names) for side, names in receipt["groups"].items()}
    return SplitReport(
        frames,
        groups,
        receipt["pins"],
        receipt["optimistic"],
        project.relative(project.split_csv),
        len(receipt["leakage"]["label_conflicts"]),
    )
