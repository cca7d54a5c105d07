"""What was joined to one group, and why: for the manifest, the receipt, and everybody who may say no."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.base.manifest import Row
from pipeline.base.words import counted
from pipeline.split.proposals import Proposals
from pipeline.split.sources import Link

GROUPS_LISTED = 1000  # groups that the receipt lists, at most
SOURCES_LISTED = 20  # of a group
SAME_BYTES = "files of the same bytes"
SAME_PIXELS = "pictures that show the same pixels"
UNCONFIRMED = "photos of one object may be on both sides"


@dataclass(frozen=True)
class JoinedGroup:
    """A group of several recordings."""

    name: str
    label: str
    reason: str
    sources: tuple[str, ...]  # sorted

    def to_json(self) -> dict[str, Any]:
        """The fields by name, with the first sources only."""
        listed = list(self.sources[:SOURCES_LISTED])
        return {"group": self.name, "label": self.label, "reason": self.reason, "recordings": len(self.sources)} | {
            "sources": listed
        }


@dataclass(frozen=True)
class Joined:
    """The groups of several recordings, what was left apart, and how many photos nobody confirmed."""

    groups: tuple[JoinedGroup, ...] = ()  # sorted by name
    left_apart: tuple[str, ...] = ()  # what looks like the numbering of a data set, one sentence each
    photos: int = 0
    photos_unconfirmed: int = 0  # those whose groups nobody confirmed
    n_across_folders: int = 0  # pairs that belong together, in folders of two sides

    @property
    def optimistic(self) -> str | None:
        """Why the numbers flatter the model where groups are kept whole; None without a reason."""
        pairs = counted(self.n_across_folders, "pair")
        reasons = (
            f"{pairs} of recordings that belong together lie in folders of two sides" if self.n_across_folders else "",
            UNCONFIRMED if self.photos_unconfirmed else "",
        )
        return "; ".join(reason for reason in reasons if reason) or None

    @property
    def n_recordings(self) -> int:
        """The recordings in the groups."""
        return sum(len(group.sources) for group in self.groups)

    def to_json(self) -> dict[str, Any]:
        """The counts, and the first groups."""
        return {
            "groups": len(self.groups),
            "recordings": self.n_recordings,
            "photos": self.photos,
            "photos_unconfirmed": self.photos_unconfirmed,
            "across_folders": self.n_across_folders,
            "left_apart": list(self.left_apart[:GROUPS_LISTED]),
            "listed": [group.to_json() for group in self.groups[:GROUPS_LISTED]],
        }


def reasons_by_group(
    before: Sequence[Row],
    after: Sequence[Row],
    links: Iterable[Link],
    alike: Iterable[tuple[str, str]],
    confirmed: Mapping[str, str],
) -> dict[str, str]:
    """Say why recordings are in one group, for each group with a reason.

    Args:
        before: the frames in the groups that were joined.
        after: the same frames, in the joined groups.
        links: the groups that were proposed to be one.
        alike: pairs of paths of frames whose groups were joined since they show the same pixels.
        confirmed: by source, where a person named its group.
    """
    joined_as = {old.group: new.group for old, new in zip(before, after, strict=True)}
    reasons: dict[str, set[str]] = defaultdict(set)
    for link in links:
        reasons[joined_as[link.first]].add(link.reason)
    paths = {first for first, _ in alike}
    first_with: dict[str, str] = {}
    for row in after:
        if row.path in paths:
            reasons[row.group].add(SAME_PIXELS)
        if row.source_sha256 and first_with.setdefault(row.source_sha256, row.source) != row.source:
            reasons[row.group].add(SAME_BYTES)
        if row.source in confirmed:
            reasons[row.group].add(confirmed[row.source])
    return {group: "; ".join(sorted(of_group)) for group, of_group in reasons.items()}


def joined_groups(rows: Iterable[Row]) -> tuple[JoinedGroup, ...]:
    """The groups of several recordings among rows of `data/split.csv`, sorted by name."""
    sources: dict[str, set[str]] = defaultdict(set)
    first_rows: dict[str, Row] = {}
    for row in rows:
        if row.group_reason:
            sources[row.group].add(row.source)
            first_rows.setdefault(row.group, row)
    return tuple(
        JoinedGroup(group, first_rows[group].label, first_rows[group].group_reason, tuple(sorted(sources[group])))
        for group in sorted(sources)
        if len(sources[group]) > 1
    )


def what_was_joined(
    rows: Sequence[Row], confirmed: Mapping[str, str], proposed: Proposals, *, all_confirmed: bool
) -> Joined:
    """Count what was joined.

    Args:
        rows: all images of the split.
        confirmed: by source, where a person named its group.
        proposed: what the rules joined and left apart.
        all_confirmed: whether a person says that the groups of all photos are right.
    """
    photos = {row.source for row in rows if row.time_seconds is None}
    unconfirmed = 0 if all_confirmed else len(photos - confirmed.keys())
    return Joined(joined_groups(rows), proposed.left_apart, len(photos), unconfirmed, proposed.n_across_folders)
