"""The search for near duplicates: hashes and local features propose pairs, and aligned pixels confirm them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import cv2

from pipeline.base.engine import each_anywhere
from pipeline.base.frames import read_thumbnail
from pipeline.base.manifest import UNUSED, Row
from pipeline.base.project import Project
from pipeline.split.near_duplicates.alignment import PIXELS_SIDE, Alignment, align, candidate_maps, shifted_maps
from pipeline.split.near_duplicates.candidates import (
    numbered_groups,
    propose_by_features,
    propose_by_hashes,
)
from pipeline.split.near_duplicates.clip_copies import CopySearch
from pipeline.split.near_duplicates.features import Features
from pipeline.split.near_duplicates.known_features import features_of
from pipeline.split.params import NearDuplicateParams

MOST_PICTURES = 50_000  # pictures whose features are searched; their descriptors take half a gigabyte
WHOLE_GROUPS = ("grouped", "given")  # the protocols that keep groups whole


@dataclass(frozen=True)
class ConfirmedPair:
    """Two pictures, of two groups, that show the same pixels."""

    first: Row
    second: Row
    alignment: Alignment

    @property
    def has_two_labels(self) -> bool:
        """Whether the labels of the two pictures differ."""
        return self.first.label != self.second.label


@dataclass(frozen=True)
class SearchResult:
    """The near duplicates that a search confirmed, the closest pair first."""

    confirmed: tuple[ConfirmedPair, ...]
    n_pictures: int  # pictures whose features were searched
    n_proposed: int  # pairs


def find_near_duplicates(rows: Sequence[Row], params: NearDuplicateParams, project: Project) -> SearchResult:
    """Search the frames for pictures of different groups that show the same pixels.

    Frames of one group are not compared with one another, since no side divides them.

    Args:
        rows: the frames, whose files exist.
        params: the thresholds of proposing and confirming.
        project: the project that the rows' paths are relative to.

    Raises:
        DataError: a frame is missing or broken.
    """
    features = _features_at(rows, spread_over_groups(rows), project)
    pairs = sorted({*propose_by_hashes(rows, params.hash_bits), *propose_by_features(features, numbered_groups(rows))})
    proposed = {position for pair in pairs for position in (pair.first, pair.second)}
    compared = features | _features_at(rows, sorted(proposed - features.keys()), project)  # beyond MOST_PICTURES
    pictures = [
        tuple(_Picture(rows[position], compared[position]) for position in (pair.first, pair.second)) for pair in pairs
    ]
    answers = each_anywhere(partial(_confirm, project, params), pictures, "comparing pictures")
    confirmed = [answer for answer in answers if answer is not None]
    confirmed.sort(key=lambda pair: (-pair.alignment.score, pair.first.path, pair.second.path))
    return SearchResult(tuple(confirmed), len(features), len(pairs))


@dataclass(frozen=True)
class _Picture:
    """One of two pictures that are compared."""

    row: Row
    features: Features


def _confirm(project: Project, params: NearDuplicateParams, pictures: tuple[_Picture, ...]) -> ConfirmedPair | None:
    """Align the pixels of two pictures; None unless they show the same ones.

    Raises:
        DataError: one of the pictures is missing or broken.
    """
    cv2.setNumThreads(1)  # `each_anywhere` keeps every processor busy already
    rows = pictures[0].row, pictures[1].row
    maps = list(candidate_maps(pictures[0].features, pictures[1].features))
    # Reading costs more than matching. Without features only pictures of one shape can be copies: shifted ones.
    if not maps and not _have_one_shape(*rows):
        return None
    first, second = (read_thumbnail(project, row, PIXELS_SIDE) for row in rows)
    attempts = [
        align(first, second, first_to_second, mirrored=mirrored)
        for first_to_second, mirrored in maps or shifted_maps(first, second)
    ]
    best = max((a for a in attempts if a is not None), key=lambda a: a.score, default=None)
    if best is None or best.score < params.correlation:
        return None
    return ConfirmedPair(*rows, best)


def pairs_to_merge(search: SearchResult | None, protocol: str) -> list[tuple[str, str]]:
    """The pairs of paths whose groups must become one.

    Under a protocol that keeps groups whole, these are the pairs of one label; where folders give the sides, both
    pictures must also lie in folders of one side. Under other protocols no group is merged, and the receipt lists the
    pairs that lie across sides.
    """
    if search is None or protocol not in WHOLE_GROUPS:
        return []
    of_one_label = (pair for pair in search.confirmed if not pair.has_two_labels)
    return [
        (pair.first.path, pair.second.path)
        for pair in of_one_label
        if protocol != "given" or pair.first.given_split == pair.second.given_split
    ]


def clips_to_merge(search: CopySearch | None, frames: Sequence[Row], protocol: str) -> list[tuple[str, str]]:
    """For each copy of a clip whose groups must become one, by the rules of `pairs_to_merge`, a frame of both clips.

    Args:
        search: the copies; None where nothing was searched.
        frames: the frames of the data set.
        protocol: of the split.
    """
    if search is None or protocol not in WHOLE_GROUPS:
        return []
    wanted = {source for copy in search.copies for source in copy.sources}
    frame_of = {frame.source: frame for frame in reversed(frames) if frame.source in wanted}
    pairs = [(frame_of[first], frame_of[second]) for first, second in (copy.sources for copy in search.copies)]
    return [
        (first.path, second.path)
        for first, second in pairs
        if first.label == second.label and (protocol != "given" or first.given_split == second.given_split)
    ]


def across_sides_first(search: SearchResult | None, side_of: Mapping[str, str]) -> SearchResult | None:
    """The same pairs with those across sides before the others, so that a sheet of a few pairs shows the leaks.

    `side_of` holds the side of each frame by its path.
    """
    if search is None:
        return None
    pairs = sorted(
        search.confirmed, key=lambda pair: not are_two_sides(side_of[pair.first.path], side_of[pair.second.path])
    )
    return replace(search, confirmed=tuple(pairs))


def are_two_sides(first: str, second: str) -> bool:
    """Whether two pictures with these values of `split` lie across sides; an unused picture is on no side."""
    return first != second and UNUSED not in (first, second)


def spread_over_groups(rows: Sequence[Row]) -> list[int]:
    """The positions of the rows whose features are searched: all, or MOST_PICTURES spread evenly over the groups."""
    if len(rows) <= MOST_PICTURES:
        return list(range(len(rows)))
    positions_by_group: dict[str, list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        positions_by_group[row.group].append(position)
    n_per_group = max(1, MOST_PICTURES // len(positions_by_group))
    spread = (positions[:: -(-len(positions) // n_per_group)] for positions in positions_by_group.values())
    chosen = sorted(position for positions in spread for position in positions)
    return chosen[:: -(-len(chosen) // MOST_PICTURES)]  # with more groups than pictures, groups are left out evenly


def _features_at(rows: Sequence[Row], positions: Sequence[int], project: Project) -> dict[int, Features]:
    """The features of the pictures at some positions of the rows, by position."""
    return dict(zip(positions, features_of([rows[position] for position in positions], project), strict=True))


def _have_one_shape(first: Row, second: Row) -> bool:
    """Whether the aspects of two pictures are equal within 2 %."""
    return abs(first.width * second.height - second.width * first.height) <= 0.02 * first.height * second.height
