"""What the sides of a split share: recordings, near duplicates, copies of clips, and clips that are on two sides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.base.leakage import clips_across_sides, exact_duplicates_across_sides
from pipeline.base.manifest import SPLITS, UNUSED, Row
from pipeline.base.words import counted
from pipeline.split.near_duplicates.clip_copies import ClipCopy, CopySearch
from pipeline.split.near_duplicates.search import ConfirmedPair, SearchResult, are_two_sides
from pipeline.split.params import SplitParams

LISTED = 1000  # pairs that a list of the receipt names, at most
_NOT_SEARCHED = "split.near_duplicates.search is false"
_CLIPS_ARE_WHOLE = "whole clips are on one side, so no two of their frames are apart"


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
        refuse_negative(self)
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
class PlacedCopy:
    """Two clips that show the same recording, and where the split put them."""

    copy: ClipCopy
    labels: tuple[str, str]
    splits: tuple[tuple[str, ...], tuple[str, ...]]  # the sides of the frames of each, without `unused`

    @property
    def has_two_labels(self) -> bool:
        """Whether the labels of the two clips differ."""
        return self.labels[0] != self.labels[1]

    @property
    def is_across_sides(self) -> bool:
        """Whether a frame of one clip and a frame of the other lie on two sides."""
        return any(first != second for first in self.splits[0] for second in self.splits[1])

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        splits = [list(sides) for sides in self.splits]
        fields = vars(self.copy) | {"sources": list(self.copy.sources)}
        return {"sources": fields.pop("sources"), "labels": list(self.labels), "splits": splits, **fields}


@dataclass(frozen=True)
class ClipCopies:
    """The copies of clips that the search confirmed."""

    clips: int  # that have a fingerprint
    without_fingerprint: int
    proposed: int  # pairs
    pairs: tuple[PlacedCopy, ...]

    def __post_init__(self) -> None:
        refuse_negative(self)

    def to_json(self) -> dict[str, Any]:
        """The counts, and the first pairs."""
        return {
            "clips": self.clips,
            "without_fingerprint": self.without_fingerprint,
            "proposed": self.proposed,
            "confirmed": len(self.pairs),
            "across_sides": sum(pair.is_across_sides for pair in self.pairs),
            "pairs": [pair.to_json() for pair in self.pairs[:LISTED]],
        }


@dataclass(frozen=True)
class Found:
    """What the searches found."""

    near_duplicates: SearchResult | None = None  # in the order in which they are listed; None where not searched
    clip_copies: CopySearch | None = None  # None where not searched


@dataclass(frozen=True)
class Leakage:
    """What the sides share: recordings, near duplicates, and clips that the protocol divides."""

    exact_duplicates: Sequence[Mapping[str, Sequence[str]]]  # `sources` and `splits` of each recording on two sides
    near_duplicates: NearDuplicates | None  # None where nothing was searched
    clip_copies: ClipCopies | None  # None where nothing was searched
    same_clip_within_seconds: Mapping[str, Any] | None  # None where the protocol keeps clips whole

    @property
    def label_conflicts(self) -> tuple[PlacedPair, ...]:
        """The near duplicates with two labels."""
        return self.near_duplicates.label_conflicts if self.near_duplicates else ()

    @property
    def reasons(self) -> list[str]:
        """The copies on two sides, in words. Those of two labels are left out, since they do not flatter the model."""
        clips = self.clip_copies.pairs if self.clip_copies else ()
        frames = self.near_duplicates.pairs if self.near_duplicates else ()
        n_clips, n_frames = (
            sum(pair.is_across_sides and not pair.has_two_labels for pair in pairs) for pairs in (clips, frames)
        )
        return [
            f"{counted(n_pairs, 'pair')} of {kind} on two sides of the split"
            for n_pairs, kind in ((n_clips, "copies of a clip"), (n_frames, "near duplicates"))
            if n_pairs
        ]

    def to_json(self) -> dict[str, Any]:
        """The findings by name, and the reason for each that is null."""
        duplicates = self.near_duplicates
        return {
            "exact_duplicates": list(self.exact_duplicates),
            "label_conflicts": _listed(self.label_conflicts),
            "near_duplicates": duplicates.to_json() if duplicates else None,
            **({} if duplicates else {"near_duplicates_reason": _NOT_SEARCHED}),
            "clip_copies": self.clip_copies.to_json() if self.clip_copies else None,
            **({} if self.clip_copies else {"clip_copies_reason": _NOT_SEARCHED}),
            "same_clip_within_seconds": self.same_clip_within_seconds,
            "same_clip_within_seconds_reason": _CLIPS_ARE_WHOLE if self.same_clip_within_seconds is None else None,
        }


def find_leakage(rows: Sequence[Row], params: SplitParams, searches: Found) -> Leakage:
    """What the sides of a split share.

    Args:
        rows: the rows of the split, with their sides.
        params: the section `split`, whose protocol says whether clips are whole.
        searches: what was found before the sides were known; a search that did not run is None there.
    """
    return Leakage(
        exact_duplicates_across_sides(rows),
        None if searches.near_duplicates is None else _with_sides(searches.near_duplicates, rows),
        None if searches.clip_copies is None else _copies_with_sides(searches.clip_copies, rows),
        None if params.protocol in ("grouped", "given") else clips_across_sides(rows),
    )


def _with_sides(search: SearchResult, rows: Iterable[Row]) -> NearDuplicates:
    side_of = {row.path: row.split for row in rows}
    pairs = tuple(_placed(pair, side_of) for pair in search.confirmed)
    return NearDuplicates(search.n_pictures, search.n_proposed, pairs)


def _copies_with_sides(search: CopySearch, rows: Iterable[Row]) -> ClipCopies:
    label_of: dict[str, str] = {}
    sides_of: dict[str, set[str]] = {source: set() for copy in search.copies for source in copy.sources}
    for row in rows:
        if row.source in sides_of:
            label_of[row.source] = row.label
            sides_of[row.source].add(row.split)
    pairs = [
        PlacedCopy(
            copy,
            (label_of[copy.sources[0]], label_of[copy.sources[1]]),
            (_on_sides(sides_of[copy.sources[0]]), _on_sides(sides_of[copy.sources[1]])),
        )
        for copy in search.copies
    ]
    pairs.sort(key=lambda pair: not pair.is_across_sides)
    return ClipCopies(search.n_clips, search.n_without, search.n_proposed, tuple(pairs))


def _on_sides(splits: set[str]) -> tuple[str, ...]:
    return tuple(side for side in SPLITS if side in splits and side != UNUSED)


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


def refuse_negative(counts: object) -> None:
    for name, count in vars(counts).items():
        if isinstance(count, int) and count < 0:
            raise ValueError(f"{name} is {count}; expected 0 or more")
