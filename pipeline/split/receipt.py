"""The receipt of a split, `reports/split.json`: what was asked for, how much lies on each side, and what leaks."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipeline.base.leakage import clips_across_sides, exact_duplicates_across_sides
from pipeline.base.manifest import SPLITS, UNUSED, Row, class_names
from pipeline.base.project import Project
from pipeline.base.words import counted
from pipeline.split.near_duplicates.search import ConfirmedPair, SearchResult, are_two_sides
from pipeline.split.params import SplitParams
from pipeline.split.protocols import asked_test_share, why_optimistic
from pipeline.split.sessions import groups_by_session

LISTED = 1000  # pairs that a list of the receipt names, at most
_SPLIT_CSV = Project(Path()).split_csv.as_posix()
_NOT_SEARCHED = "split.near_duplicates.search is false"
_NO_SESSIONS = "data/groups.csv names no session"
_BALANCE_IS_KEPT = "every group has one label, and no session is held out"
_NOT_NAMED: Mapping[str, str] = MappingProxyType({})
_CLIPS_ARE_WHOLE = "whole clips are on one side, so no two of their frames are apart"


@dataclass(frozen=True)
class ClassCounts:
    """How much of one class lies on one side."""

    frames: int  # kept ones
    dropped: int  # frames that screening dropped
    augmented: int
    groups: int

    def __post_init__(self) -> None:
        _refuse_negative(self)

    def to_json(self) -> dict[str, int]:
        """The counts by name."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class PinCounts:
    """How many groups the pins of `data/split.keep.csv` hold."""

    pinned: int
    new: int  # groups without a pin
    gone: int  # pins without a group

    def __post_init__(self) -> None:
        _refuse_negative(self)

    def to_json(self) -> dict[str, int]:
        """The counts by name."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class PlacedPair:
    """Two near duplicates, and where the split put them."""

    paths: tuple[str, str]
    labels: tuple[str, str]
    splits: tuple[str, str]  # each train, val, test or unused
    score: float  # local correlation that nine tenths of the textured overlap reach, -1 to 1
    overlap: float  # share of the smaller picture's area, 0 to 1
    mirrored: bool

    @property
    def has_two_labels(self) -> bool:
        """Whether the labels of the two pictures differ."""
        return self.labels[0] != self.labels[1]

    @property
    def is_across_sides(self) -> bool:
        """Whether the two pictures lie on two sides."""
        return are_two_sides(*self.splits)

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


@dataclass(frozen=True)
class NearDuplicates:
    """The near duplicates that the search confirmed."""

    pictures: int  # pictures whose features were searched
    proposed: int  # pairs
    pairs: tuple[PlacedPair, ...]  # confirmed ones, in the order of the sheet

    def __post_init__(self) -> None:
        _refuse_negative(self)
        if len(self.pairs) > self.proposed:
            raise ValueError(f"{len(self.pairs)} pairs confirmed of {self.proposed} proposed; expected no more")

    @property
    def label_conflicts(self) -> tuple[PlacedPair, ...]:
        """The pairs with two labels."""
        return tuple(pair for pair in self.pairs if pair.has_two_labels)

    def to_json(self) -> dict[str, Any]:
        """The counts, and the first pairs of each list."""
        across_sides = [pair for pair in self.pairs if pair.is_across_sides]
        return {
            "pictures": self.pictures,
            "proposed": self.proposed,
            "confirmed": len(self.pairs),
            "across_sides": len(across_sides),
            "pairs": _listed(self.pairs),
            "pairs_across_sides": _listed(across_sides),
        }


@dataclass(frozen=True)
class Leakage:
    """What the sides share: recordings, near duplicates, and clips that the protocol divides."""

    exact_duplicates: Sequence[Mapping[str, Sequence[str]]]  # `sources` and `splits` of each recording on two sides
    near_duplicates: NearDuplicates | None  # None where nothing was searched
    same_clip_within_seconds: Mapping[str, Any] | None  # None where the protocol keeps clips whole

    @property
    def label_conflicts(self) -> tuple[PlacedPair, ...]:
        """The near duplicates with two labels."""
        return self.near_duplicates.label_conflicts if self.near_duplicates else ()

    @property
    def n_copies_across(self) -> int:
        """The number of near duplicates of one label on two sides: with two labels they do not flatter the model."""
        pairs = self.near_duplicates.pairs if self.near_duplicates else ()
        return sum(pair.is_across_sides and not pair.has_two_labels for pair in pairs)

    def to_json(self) -> dict[str, Any]:
        """The findings by name, and the reason for each that is null."""
        duplicates = self.near_duplicates
        return {
            "exact_duplicates": list(self.exact_duplicates),
            "label_conflicts": _listed(self.label_conflicts),
            "near_duplicates": duplicates.to_json() if duplicates else None,
            **({} if duplicates else {"near_duplicates_reason": _NOT_SEARCHED}),
            "same_clip_within_seconds": self.same_clip_within_seconds,
            "same_clip_within_seconds_reason": _CLIPS_ARE_WHOLE if self.same_clip_within_seconds is None else None,
        }


@dataclass(frozen=True)
class Balance:
    """What whole groups of several labels, or a held-out session, leave of the asked share of each class."""

    groups_of_several_labels: int
    test_share_asked: float | None  # None where no share is asked for
    test_share: Mapping[str, float]  # by class: the test side's share of the kept frames that are on a side

    def __post_init__(self) -> None:
        _refuse_negative(self)

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
    sessions: Mapping[str, Mapping[str, int]]  # number of groups by session and side; empty where none is named
    balance: Balance | None  # None where each class is divided by itself

    def __post_init__(self) -> None:
        _refuse_negative(self)
        if list(self.counts) != list(self.groups):
            raise ValueError(f"counts of {list(self.counts)}, groups of {list(self.groups)}; expected the same sides")
        for side, groups in self.groups.items():
            n_counted = sum(counts.groups for counts in self.counts[side].values())
            n_fewest = len(groups)  # a group of several labels counts in each
            if n_counted < n_fewest or (n_counted > n_fewest and not self._has_groups_of_several_labels):
                raise ValueError(f"{side}: {n_counted} groups counted, {n_fewest} named; expected the same number")
        n_groups = len({group for groups in self.groups.values() for group in groups})
        if self.pins.pinned + self.pins.new < n_groups:
            raise ValueError(f"{self.pins} for {n_groups} groups; expected each group to be pinned or new")

    @property
    def headline(self) -> str:
        """The closing line: the sizes of the sides, pins, a warning of conflicting labels, and where the split is."""
        sides = [f"{side} {n_frames} ({len(self.groups[side])})" for side, n_frames in self.frames.items()]
        pins = f"; {counted(self.pins.pinned, 'group')} pinned, {self.pins.new} new" if self.pins.pinned else ""
        optimistic = f"; optimistic: {self.optimistic}" if self.optimistic else ""
        n_conflicts = len(self.leakage.label_conflicts)
        conflicts = f"; WARNING: {counted(n_conflicts, 'near duplicate')} with two labels" if n_conflicts else ""
        balance = f"; {self.balance.sentence}" if self.balance else ""
        return f"frames (groups): {', '.join(sides)}{pins}{balance}{optimistic}{conflicts}; {_SPLIT_CSV}"

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
        return why_optimistic(self.params, self.leakage.n_copies_across)

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
            "pins": self.pins.to_json(),
            "sessions": {name: dict(by_side) for name, by_side in self.sessions.items()} or None,
            **({} if self.sessions else {"sessions_reason": _NO_SESSIONS}),
            "balance": self.balance.to_json() if self.balance else None,
            **({} if self.balance else {"balance_reason": _BALANCE_IS_KEPT}),
            "leakage": self.leakage.to_json(),
        }


def make_receipt(
    rows: Sequence[Row],
    params: SplitParams,
    merged: Sequence[Sequence[str]],
    pins: Mapping[str, str],
    search: SearchResult | None,
    session_of: Mapping[str, str] = _NOT_NAMED,
) -> SplitReceipt:
    """Count the rows of a split, and look for what leaks.

    Args:
        rows: all images of the data set, with their sides.
        params: the section `split`.
        merged: the names of each group that was made of several.
        pins: the sides of the pinned groups.
        search: the near duplicates, in the order in which they are listed; None where nothing was searched.
        session_of: the session of each source that has one.
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
        merged_groups=merged,
        pins=_count_pins({row.group for row in rows}, pins),
        leakage=_find_leakage(rows, params, search),
        sessions=groups_by_session(rows, session_of),
        balance=_find_balance(rows, params),
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


def _count_pins(groups: set[str], pins: Mapping[str, str]) -> PinCounts:
    return PinCounts(len(groups & pins.keys()), len(groups - pins.keys()), len(pins.keys() - groups))


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


def _find_leakage(rows: Sequence[Row], params: SplitParams, search: SearchResult | None) -> Leakage:
    return Leakage(
        exact_duplicates_across_sides(rows),
        None if search is None else _with_sides(search, rows),
        None if params.protocol in ("grouped", "given") else clips_across_sides(rows),
    )


def _with_sides(search: SearchResult, rows: Iterable[Row]) -> NearDuplicates:
    side_of = {row.path: row.split for row in rows}
    pairs = tuple(_placed(pair, side_of) for pair in search.confirmed)
    return NearDuplicates(search.n_pictures, search.n_proposed, pairs)


def _placed(pair: ConfirmedPair, side_of: Mapping[str, str]) -> PlacedPair:
    first, second, alignment = pair.first, pair.second, pair.alignment
    return PlacedPair(
        (first.path, second.path),
        (first.label, second.label),
        (side_of[first.path], side_of[second.path]),
        round(alignment.score, 3),
        round(alignment.overlap, 3),
        alignment.mirrored,
    )


def _listed(pairs: Sequence[PlacedPair]) -> list[dict[str, Any]]:
    return [pair.to_json() for pair in pairs[:LISTED]]


def _refuse_negative(counts: object) -> None:
    for name, count in vars(counts).items():
        if isinstance(count, int) and count < 0:
            raise ValueError(f"{name} is {count}; expected 0 or more")
