"""The receipt of a split, `reports/split.json`: what was asked for, how much lies on each side, and what leaks."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.base.manifest import SPLITS, UNUSED, Row, class_names
from pipeline.base.project import Project
from pipeline.base.words import counted
from pipeline.split.folds import Folds
from pipeline.split.joined import Joined
from pipeline.split.kept.places import Kept
from pipeline.split.leaks import Found, Leakage, find_leakage, refuse_negative
from pipeline.split.near_duplicates.search import WHOLE_GROUPS
from pipeline.split.params import SplitParams
from pipeline.split.protocols import asked_test_share, why_optimistic
from pipeline.split.sessions import groups_by_session

_SPLIT_CSV = Project(Path()).split_csv.as_posix()
_NO_SESSIONS = "data/groups.csv names no session"
_BALANCE_IS_KEPT = "every group has one label, and no session is held out"


@dataclass(frozen=True)
class ClassCounts:
    """How much of one class lies on one side."""

    frames: int  # kept ones
    dropped: int  # frames that screening dropped
    augmented: int
    groups: int

    def __post_init__(self) -> None:
        refuse_negative(self)

    def to_json(self) -> dict[str, int]:
        """The counts by name."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class PinCounts:
    """How many groups have a place in `data/split.keep.csv`, as this run leaves the file."""

    pinned: int
    new: int  # groups that have none
    gone: int  # lines of the file whose recording is not there
    pinned_before: int = 0  # groups that kept the place of an earlier run

    def __post_init__(self) -> None:
        refuse_negative(self)

    def to_json(self) -> dict[str, int]:
        """The counts as they are now: a split that runs again on the same data writes the same bytes."""
        return {"pinned": self.pinned, "new": self.new, "gone": self.gone}


@dataclass(frozen=True)
class Balance:
    """What whole groups of several labels, or a held-out session, leave of the asked share of each class."""

    groups_of_several_labels: int
    test_share_asked: float | None  # None where no share is asked for
    test_share: Mapping[str, float]  # by class: the test side's share of the kept frames that are on a side

    def __post_init__(self) -> None:
        refuse_negative(self)

    @property
    def sentence(self) -> str:
        """The range of the shares, in words."""
        low, high = min(self.test_share.values()), max(self.test_share.values())
        asked = "" if self.test_share_asked is None else f", asked {self.test_share_asked:.0%}"
        return f"test has {low:.0%} to {high:.0%} of the frames of a class{asked}"

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return vars(self) | {"test_share": dict(self.test_share)}


@dataclass(frozen=True)
class SplitReceipt:
    """What was asked for, how much lies on each side, and what leaks between the sides."""

    params: SplitParams
    counts: Mapping[str, Mapping[str, ClassCounts]]  # by side and class, for the sides that have an image
    frames_unused: int  # frames in a guard gap, or above the asked counts
    augmented_unused: int
    groups: Mapping[str, Sequence[str]]  # names of the groups by side, sorted
    merged_groups: Sequence[Sequence[str]]  # names that became one group, the group's name first
    pins: PinCounts
    leakage: Leakage
    joined: Joined
    sessions: Mapping[str, Mapping[str, int]]  # number of groups by session and side; empty where none is named
    balance: Balance | None  # None where each class is divided by itself
    folds: Folds

    def __post_init__(self) -> None:
        refuse_negative(self)
        if list(self.counts) != list(self.groups):
            raise ValueError(f"counts of {list(self.counts)}, groups of {list(self.groups)}; expected the same sides")
        for side, groups in self.groups.items():
            n_counted = sum(counts.groups for counts in self.counts[side].values())
            n_fewest = len(groups)  # a group of several labels counts in each
            if n_counted < n_fewest or (n_counted > n_fewest and not self._has_groups_of_several_labels):
                raise ValueError(f"{side}: {n_counted} groups counted, {n_fewest} named; expected the same number")
        n_groups = len({group for groups in self.groups.values() for group in groups})
        if self._n_groups < n_groups:
            raise ValueError(f"{self.pins} for {n_groups} groups; expected each group to be pinned or new")

    @property
    def headline(self) -> str:
        """The closing line: the sizes of the sides, pins, a warning of conflicting labels, and where the split is."""
        sides = [f"{side} {n_frames} ({len(self.groups[side])})" for side, n_frames in self.frames.items()]
        n_kept = self.pins.pinned_before
        places = f"{'keeps its place' if n_kept == 1 else 'keep their places'}, {self._n_groups - n_kept} new"
        pins = f"; {counted(n_kept, 'group')} {places}" if n_kept else ""
        n_joined = self.joined.n_recordings
        joined = f"; {n_joined} recordings joined to {counted(len(self.joined.groups), 'group')}" if n_joined else ""
        optimistic = f"; optimistic: {self.optimistic}" if self.optimistic else ""
        clips = self.leakage.clip_copies
        numbers = (
            (len(self.leakage.label_conflicts), "near duplicate", ""),
            (sum(pair.has_two_labels for pair in clips.pairs) if clips else 0, "copy of a clip", "copies of clips"),
        )
        conflicts = "".join(
            f"; WARNING: {counted(n_conflicts, noun, plural)} with two labels"
            for n_conflicts, noun, plural in numbers
            if n_conflicts
        )
        balance = f"; {self.balance.sentence}" if self.balance else ""
        return f"frames (groups): {', '.join(sides)}{pins}{joined}{balance}{optimistic}{conflicts}; {_SPLIT_CSV}"

    @property
    def _n_groups(self) -> int:
        return self.pins.pinned + self.pins.new

    @property
    def _has_groups_of_several_labels(self) -> bool:
        return self.balance is not None and self.balance.groups_of_several_labels > 0

    @property
    def frames(self) -> dict[str, int]:
        """Kept frames by side."""
        return {side: sum(counts.frames for counts in by_class.values()) for side, by_class in self.counts.items()}

    @property
    def optimistic(self) -> str | None:
        """Why the numbers flatter the model; None where nothing is known that flatters it."""
        of_groups = self.joined.optimistic if self.params.protocol in WHOLE_GROUPS else None
        reasons = (why_optimistic(self.params, self.leakage.reasons), of_groups)
        return "; ".join(reason for reason in reasons if reason) or None

    def to_json(self) -> dict[str, Any]:
        """The content of `reports/split.json`."""
        n_frames = sum(self.frames.values()) or 1
        return {
            "protocol": self.params.protocol,
            "augmented_in_test": self.params.augmented_in_test,
            "optimistic": self.optimistic,
            "asked": self.params.model_dump(exclude={"protocol", "augmented_in_test", "caveat"}),
            "achieved_ratio": {side: round(frames / n_frames, 6) for side, frames in self.frames.items()},
            "counts": {
                side: {label: counts.to_json() for label, counts in by_class.items()}
                for side, by_class in self.counts.items()
            },
            "frames_unused": self.frames_unused,
            "augmented_unused": self.augmented_unused,
            "groups": {side: list(groups) for side, groups in self.groups.items()},
            "merged_groups": [list(names) for names in self.merged_groups],
            "joined": self.joined.to_json(),
            "pins": self.pins.to_json(),
            "sessions": {name: dict(by_side) for name, by_side in self.sessions.items()} or None,
            **({} if self.sessions else {"sessions_reason": _NO_SESSIONS}),
            "balance": self.balance.to_json() if self.balance else None,
            **({} if self.balance else {"balance_reason": _BALANCE_IS_KEPT}),
            **self.folds.to_json(),
            "leakage": self.leakage.to_json(),
        }


@dataclass(frozen=True)
class KnownGroups:
    """What a project knows of its groups, beside the rows."""

    merged: Sequence[Sequence[str]]  # the names of each group that was made of several
    kept: Kept
    joined: Joined  # the groups of several recordings, and why
    folds: Folds
    session_of: Mapping[str, str] = field(default_factory=dict)  # the session of each source that has one
    are_kept: bool = False  # whether all places are kept from now on


def make_receipt(rows: Sequence[Row], params: SplitParams, known: KnownGroups, searches: Found) -> SplitReceipt:
    """Count the rows of a split, and look for what leaks.

    Args:
        rows: all images, with their sides.
        params: the section `split`.
        known: what the project knows of the groups.
        searches: what the searches found.
    """
    labels = class_names(rows)
    present = {row.split for row in rows}
    rows_by_side = {side: [row for row in rows if row.split == side] for side in SPLITS if side in present}
    unused = rows_by_side.pop(UNUSED, [])
    return SplitReceipt(
        params,
        counts={side: _count(on_side, labels) for side, on_side in rows_by_side.items()},
        frames_unused=sum(not row.is_copy for row in unused),
        augmented_unused=sum(row.is_copy for row in unused),
        groups={side: sorted({row.group for row in on_side}) for side, on_side in rows_by_side.items()},
        merged_groups=known.merged,
        pins=_count_pins(rows, known),
        leakage=find_leakage(rows, params, searches),
        sessions=groups_by_session(rows, known.session_of),
        balance=_find_balance(rows, params),
        joined=known.joined,
        folds=known.folds,
    )


def _count(rows: Sequence[Row], labels: Iterable[str]) -> dict[str, ClassCounts]:
    """The counts of one side by class."""
    images = Counter((row.label, _kind(row)) for row in rows)
    groups = Counter(label for label, _ in {(row.label, row.group) for row in rows})
    return {
        label: ClassCounts(images[label, "frames"], images[label, "dropped"], images[label, "augmented"], groups[label])
        for label in labels
    }


def _kind(row: Row) -> str:
    if row.is_copy:
        return "augmented"
    return "frames" if row.kept else "dropped"


def _count_pins(rows: Iterable[Row], known: KnownGroups) -> PinCounts:
    groups = {(row.group, row.split != UNUSED) for row in rows}
    pinned = {group for group, is_on_a_side in groups if is_on_a_side and known.are_kept}
    n_groups = len({group for group, _ in groups})
    n_before = len(known.kept.side_of)
    return PinCounts(len(pinned), n_groups - len(pinned), len(known.kept.without_clip), n_before)


def _find_balance(rows: Sequence[Row], params: SplitParams) -> Balance | None:
    labels_of: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        labels_of[row.group].add(row.label)
    n_shared = sum(len(labels) > 1 for labels in labels_of.values())
    if not n_shared and params.hold_out is None:
        return None
    kept = Counter((row.label, row.split == "test") for row in rows if _kind(row) == "frames" and row.split != UNUSED)
    share = {
        label: round(kept[label, True] / ((kept[label, True] + kept[label, False]) or 1), 6)
        for label in class_names(rows)
    }
    asked = asked_test_share(params)
    return Balance(n_shared, None if asked is None else round(float(asked), 6), share)
