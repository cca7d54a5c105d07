"""Near duplicates: hashes and local features propose, the alignment of pixels confirms."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from pipeline.base.frames import read_thumbnail
from pipeline.base.manifest import UNUSED, Row
from pipeline.base.parallel import each
from pipeline.base.project import Project
from pipeline.split.near_duplicates.alignment import PIXELS_SIDE, Alignment, agreement, candidate_maps, shifted_maps
from pipeline.split.near_duplicates.candidates import Pair, propose, propose_by_features
from pipeline.split.near_duplicates.features import FEATURES_SIDE, Features, find_features
from pipeline.split.params import NearDuplicateParams

MOST_PICTURES = 50_000  # that are looked at for features: half a gigabyte of descriptors
LISTED = 1000  # pairs that the receipt names
WHOLE_GROUPS = ("grouped", "given")  # the protocols that keep groups whole


@dataclass(frozen=True)
class Confirmed:
    """Two pictures, of two groups, that show the same pixels."""

    first: Row
    second: Row
    alignment: Alignment

    @property
    def has_two_labels(self) -> bool:
        """Whether the two say differently what they show."""
        return self.first.label != self.second.label


@dataclass(frozen=True)
class Search:
    """What a search for near duplicates found, the closest pair first."""

    confirmed: tuple[Confirmed, ...]
    n_looked_at: int  # pictures
    n_proposed: int  # pairs


def pairs_to_merge(search: Search | None, protocol: str) -> list[tuple[str, str]]:
    """The pairs of paths whose groups are to be one: those of one label, under a protocol that keeps groups whole.

    Where folders give the sides, they have to lie in those of one side. Otherwise nothing is merged: the receipt says
    what came to lie across sides.
    """
    if search is None or protocol not in WHOLE_GROUPS:
        return []
    alike = (pair for pair in search.confirmed if not pair.has_two_labels)
    return [
        (pair.first.path, pair.second.path)
        for pair in alike
        if protocol != "given" or pair.first.given_split == pair.second.given_split
    ]


def across_sides_first(search: Search | None, side_of: Mapping[str, str]) -> Search | None:
    """The same pairs, those on two sides before the others, so that the sheet of a few shows what leaks."""
    if search is None:
        return None
    pairs = sorted(
        search.confirmed, key=lambda pair: not _are_two_sides(side_of[pair.first.path], side_of[pair.second.path])
    )
    return replace(search, confirmed=tuple(pairs))


def find_near_duplicates(rows: Sequence[Row], params: NearDuplicateParams, project: Project) -> Search:
    """Search the frames for pictures of different groups that show the same pixels.

    Frames of one group are not compared with one another: nothing divides them.

    Raises:
        DataError: a frame is missing or broken.
    """
    features = _look_at(rows, project)
    numbered = {group: number for number, group in enumerate(sorted({row.group for row in rows}))}
    groups = np.array([numbered[row.group] for row in rows], np.int64)
    pairs = sorted({*propose(rows, params.hash_bits), *propose_by_features(features, groups)})
    comparison = Comparison(rows, features, params, project)
    answers = list(each(comparison.confirm, pairs, "comparing pictures"))
    confirmed = [answer for answer in answers if answer is not None]
    confirmed.sort(key=lambda pair: (-pair.alignment.score, pair.first.path, pair.second.path))
    return Search(tuple(confirmed), len(features), len(pairs))


class Comparison:
    """Compares pictures of some rows; threads may share it."""

    def __init__(
        self, rows: Sequence[Row], features: Mapping[int, Features], params: NearDuplicateParams, project: Project
    ) -> None:
        self._rows, self._params, self._project = rows, params, project
        self._features = dict(features)
        self._lock = threading.Lock()

    def confirm(self, pair: Pair) -> Confirmed | None:
        """Align the two pictures; None unless they show the same pixels.

        Raises:
            DataError: one of the pictures is missing or broken.
        """
        one, other = self._rows[pair.first], self._rows[pair.second]
        maps = list(candidate_maps(self._features_of(pair.first), self._features_of(pair.second)))
        # Reading costs more than matching: only pictures of one shape can be shifted copies without features.
        if not maps and not _alike_in_shape(one, other):
            return None
        first, second = (read_thumbnail(self._project, row, PIXELS_SIDE) for row in (one, other))
        found = [
            agreement(first, second, by, mirrored=mirrored) for by, mirrored in maps or shifted_maps(first, second)
        ]
        best = max((a for a in found if a is not None), key=lambda a: a.score, default=None)
        if best is None or best.score < self._params.correlation:
            return None
        return Confirmed(one, other, best)

    def _features_of(self, position: int) -> Features:
        found = self._features.get(position)
        if found is None:  # beyond MOST_PICTURES
            found = find_features(read_thumbnail(self._project, self._rows[position], FEATURES_SIDE))
            with self._lock:
                self._features[position] = found
        return found


def search_receipt(search: Search | None, rows: Iterable[Row]) -> dict[str, Any]:
    """What `leakage` in `reports/split.json` says of near duplicates, for rows that have their sides."""
    if search is None:
        reason = "split.near_duplicates.search is false"
        return {"label_conflicts": [], "near_duplicates": None, "near_duplicates_reason": reason}
    side_of = {row.path: row.split for row in rows}
    pairs = [_line(pair, side_of) for pair in search.confirmed]
    across = [pair for pair in pairs if _are_two_sides(*pair["splits"])]
    return {
        "label_conflicts": [pair for pair in pairs if pair["labels"][0] != pair["labels"][1]][:LISTED],
        "near_duplicates": {
            "pictures": search.n_looked_at,
            "proposed": search.n_proposed,
            "confirmed": len(pairs),
            "across_sides": len(across),
            "pairs": pairs[:LISTED],
            "pairs_across_sides": across[:LISTED],
        },
    }


def _are_two_sides(one: str, other: str) -> bool:
    """Whether something leaks between the two: what is unused is on no side."""
    return one != other and UNUSED not in (one, other)


def _look_at(rows: Sequence[Row], project: Project) -> dict[int, Features]:
    """The features of the pictures; of very many, those of frames spread evenly over each group."""
    positions = spread_over_groups(rows)

    def look(position: int) -> Features:
        return find_features(read_thumbnail(project, rows[position], FEATURES_SIDE))

    cv2.setNumThreads(1)  # the threads of `each` are side by side already
    return dict(zip(positions, each(look, positions, "looking for near duplicates"), strict=True))


def spread_over_groups(rows: Sequence[Row]) -> list[int]:
    """The positions of the rows that are looked at: all, or of very many some, spread over each group."""
    if len(rows) <= MOST_PICTURES:
        return list(range(len(rows)))
    of_group: dict[str, list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        of_group[row.group].append(position)
    each_gets = max(1, MOST_PICTURES // len(of_group))
    spread = (positions[:: -(-len(positions) // each_gets)] for positions in of_group.values())
    taken = sorted(position for positions in spread for position in positions)
    return taken[:: -(-len(taken) // MOST_PICTURES)]  # of more groups than pictures some are passed over, everywhere


def _alike_in_shape(one: Row, other: Row) -> bool:
    return abs(one.width * other.height - other.width * one.height) <= 0.02 * one.height * other.height


def _line(pair: Confirmed, side_of: Mapping[str, str]) -> dict[str, Any]:
    return {
        "paths": [pair.first.path, pair.second.path],
        "labels": [pair.first.label, pair.second.label],
        "splits": [side_of[pair.first.path], side_of[pair.second.path]],
        "score": round(pair.alignment.score, 3),
        "overlap": round(pair.alignment.overlap, 3),
        "mirrored": pair.alignment.mirrored,
    }
