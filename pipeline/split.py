"""Which groups train and which are held out: whole groups only, and a receipt that says so."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import manifest
from pipeline.assignment import assign_groups
from pipeline.errors import DataError
from pipeline.files import Project, write_json
from pipeline.leakage import (
    exact_duplicates_across_sides,
    is_copy,
    merge_exact_copies,
    refuse_label_conflicts,
    refuse_leaks,
)
from pipeline.manifest import Row, class_names
from pipeline.params import SplitParams


@dataclass(frozen=True)
class SplitReport:
    """What `split` made."""

    frames: Mapping[str, int]  # kept frames of train, val and test
    groups: Mapping[str, int]
    split_csv: str  # relative to the project

    @property
    def headline(self) -> str:
        """The closing line: sizes of the sides, and where the split is."""
        sides = [f"{side} {self.frames[side]} ({self.groups[side]})" for side in self.frames]
        return f"frames (groups): {', '.join(sides)}; {self.split_csv}"


def split(params: SplitParams, project: Project) -> SplitReport:
    """Assign every group to train, val or test, so that no group is on two sides and every class is on each.

    Reads the frame and augmentation manifests, writes the split manifest and its receipt. A frame that screening
    dropped gets its group's side too; an augmented image is in train with its parent, or `unused`.

    Raises:
        DataError: a manifest is missing or stale, a recording has two labels, there is one class only, or a class
            has too few groups; the message says how many to film.
        LeakageError: something would sit on two sides; the receipt has been written.
    """
    frames = manifest.read(project.frames_csv)
    copies = manifest.read(project.augmented_csv, empty_is_fine=True)
    refuse_label_conflicts(frames, project.frames_csv)
    frames, merged = merge_exact_copies(frames)
    frames = _assign(frames, params, project.frames_csv)
    rows = frames + _follow_parents(copies, frames, project.augmented_csv)
    receipt = _receipt(rows, merged, params)
    write_json(project.split_json, receipt)
    refuse_leaks(rows)
    manifest.write_split(rows, project.split_csv)
    return _report(receipt, project)


def _assign(frames: Sequence[Row], params: SplitParams, place: Path) -> list[Row]:
    shares = _shares(params)
    sizes = _kept_frames_by_group(frames)
    _refuse_too_few(sizes, tuple(shares), place)
    side_of: dict[str, str] = {}
    for frames_by_group in sizes.values():
        side_of |= assign_groups(frames_by_group, shares, params.seed)
    return [replace(frame, split=side_of[frame.group]) for frame in frames]


def _shares(params: SplitParams) -> dict[str, float]:
    """What part of each class a side should get: the ratio is (train + val) : test."""
    training = 1 - params.test_share
    if params.val is None:
        return {"train": training, "test": params.test_share}
    return {"train": training * (1 - params.val), "val": training * params.val, "test": params.test_share}


def _kept_frames_by_group(frames: Iterable[Row]) -> dict[str, dict[str, int]]:
    sizes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for frame in frames:
        sizes[frame.label][frame.group] += frame.kept
    return dict(sorted(sizes.items()))


def _refuse_too_few(sizes: Mapping[str, Mapping[str, int]], sides: Sequence[str], place: Path) -> None:
    if len(sizes) < 2:
        raise DataError(f"{place}: one class only, {next(iter(sizes))!r}; expected at least two, add clips of another")
    n_groups = {label: sum(1 for frames in groups.values() if frames) for label, groups in sizes.items()}
    few = [f"{label!r} has {n} (film {len(sides) - n} more)" for label, n in n_groups.items() if n < len(sides)]
    if few:
        way_out = "; with split.val: null two are enough" if "val" in sides else ""
        raise DataError(
            f"{place}: too few clips or photos with kept frames: {', '.join(few)}; "
            f"every class needs {len(sides)}, one each for {', '.join(sides)}{way_out}"
        )


def _follow_parents(copies: Iterable[Row], frames: Iterable[Row], place: Path) -> list[Row]:
    by_path = {frame.path: frame for frame in frames if frame.kept}
    rows = []
    for copy in copies:
        parent = by_path.get(copy.parent)
        if parent is None or (parent.label, parent.source_sha256) != (copy.label, copy.source_sha256):
            raise DataError(
                f"{place}: {copy.path} was made from {copy.parent or 'no frame'}, "
                "which the frames do not have (any more); run `pipe augment` again"
            )
        rows.append(replace(copy, group=parent.group, split="train" if parent.split == "train" else "unused"))
    return rows


def _receipt(rows: Sequence[Row], merged: list[list[str]], params: SplitParams) -> dict[str, Any]:
    """What `reports/split.json` says."""
    sides = tuple(_shares(params))
    counts = {side: _counts([row for row in rows if row.split == side], class_names(rows)) for side in sides}
    frames = {side: sum(of_class["frames"] for of_class in counts[side].values()) for side in sides}
    return {
        "protocol": params.protocol,
        "optimistic": params.caveat,
        "asked": {"ratio": params.ratio, "val": params.val, "seed": params.seed},
        "achieved_ratio": {side: round(number / sum(frames.values()), 6) for side, number in frames.items()},
        "counts": counts,
        "augmented_unused": sum(row.split == "unused" for row in rows),
        "groups": {side: sorted({row.group for row in rows if row.split == side}) for side in sides},
        "merged_groups": merged,
        "leakage": {
            "exact_duplicates": exact_duplicates_across_sides(rows),
            "label_conflicts": [],  # a conflict has been refused by now
            "near_duplicates": None,
            "near_duplicates_reason": "near duplicates are not searched for yet",
            "same_clip_within_seconds": None,
            "same_clip_within_seconds_reason": "whole clips are on one side, so no two of their frames are apart",
        },
    }


def _counts(rows: Sequence[Row], labels: Iterable[str]) -> dict[str, dict[str, int]]:
    """One side, per class: kept frames, frames that screening dropped, augmented images, groups."""
    images = Counter((row.label, _kind(row)) for row in rows)
    groups = Counter(label for label, _ in {(row.label, row.group) for row in rows})
    return {
        label: {kind: images[label, kind] for kind in ("frames", "dropped", "augmented")} | {"groups": groups[label]}
        for label in labels
    }


def _kind(row: Row) -> str:
    if is_copy(row):
        return "augmented"
    return "frames" if row.kept else "dropped"


def _report(receipt: Mapping[str, Any], project: Project) -> SplitReport:
    frames = {
        side: sum(of_class["frames"] for of_class in counts.values()) for side, counts in receipt["counts"].items()
    }
    groups = {side: len(names) for side, names in receipt["groups"].items()}
    return SplitReport(frames, groups, project.relative(project.split_csv))
