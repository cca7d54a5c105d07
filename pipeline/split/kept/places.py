"""Which groups keep their places: a group has the place that one of its recordings had."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipeline.base.manifest import SIDES, Row
from pipeline.split.kept.table import KeptTable, Place, refuse_contradiction
from pipeline.split.params import SplitParams


@dataclass(frozen=True)
class Kept:
    """The recordings and groups that keep their places."""

    place_of: Mapping[str, Place] = field(default_factory=dict)  # by sha256 of a recording that is there
    side_of: Mapping[str, str] = field(default_factory=dict)  # by group
    fold_of: Mapping[str, int] = field(default_factory=dict)  # by group; only of groups that were in a fold
    without_clip: tuple[Place, ...] = ()  # lines whose recordings are not there
    torn: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)  # the places that a joined group had


def find_kept(table: KeptTable, apart: Sequence[Row], frames: Sequence[Row], params: SplitParams) -> Kept:
    """Find the groups that keep their places.

    Recordings that had two places and are one group now get one. It is the first of train, val and test: what a network
    may have learned from is never tested on. Its fold is the one in which most of them were.

    Args:
        table: the lines of `data/split.keep.csv`.
        apart: the frames before groups were joined: a line without sha256 may name one of these groups.
        frames: the same frames in their groups.
        params: the section `split`. Where it asks for no validation, what was in val is in train.

    Raises:
        DataError: a line without sha256 contradicts another one.
    """
    group_of = {frame.source_sha256: frame.group for frame in frames if frame.source_sha256}
    place_of = {place.source_sha256: place for place in table.places if place.source_sha256 in group_of}
    others = [place for place in table.places if place.source_sha256 not in group_of]
    named = _recordings_named({place.source for place in others}, apart, frames)
    without: list[Place] = []
    # Lines of a person first. A new file under the name of one that is gone is that one, cut or encoded anew.
    for place in sorted(others, key=lambda place: bool(place.source_sha256)):
        is_there = False
        for sha256 in sorted(named[place.source]):
            if sha256 not in place_of:
                place_of[sha256] = replace(place, source_sha256=sha256)
                is_there = True
            elif not place.source_sha256:
                refuse_contradiction(place_of[sha256], place)
                is_there = True
        if not is_there:
            without.append(place)
    places: dict[str, list[Place]] = defaultdict(list)
    for sha256 in sorted(place_of):
        places[group_of[sha256]].append(place_of[sha256])
    return Kept(
        place_of,
        {group: _side_of(of_group, has_val=params.asks_for_val) for group, of_group in places.items()},
        {group: fold for group, of_group in places.items() for fold in _most_common_fold(of_group)},
        tuple(without),
        {group: tuple(of_group) for group, of_group in places.items() if _are_torn(of_group)},
    )


def extended(kept: Kept, frames: Iterable[Row], dealt_by: str) -> Iterator[Place]:
    """Yield the lines of the next `data/split.keep.csv`: every recording that is on a side, and those that are gone.

    Args:
        kept: what was kept so far.
        frames: with their sides and folds.
        dealt_by: the params, for recordings that are new.
    """
    first: dict[str, Row] = {}
    for frame in frames:
        earlier = first.get(frame.source_sha256)
        if earlier is None or frame.source < earlier.source:
            first[frame.source_sha256] = frame
    for sha256, frame in first.items():
        if sha256 and frame.split in SIDES:
            known = kept.place_of.get(sha256)
            fold = known.fold if known and frame.fold is None else frame.fold
            yield Place(sha256, frame.source, frame.split, fold, known.dealt_by if known else dealt_by)
    yield from kept.without_clip


def _recordings_named(names: set[str], apart: Sequence[Row], frames: Sequence[Row]) -> dict[str, set[str]]:
    """The sha256 of the recordings that have each name, or are in a group of that name."""
    named: dict[str, set[str]] = {name: set() for name in names}
    for before, frame in zip(apart, frames, strict=True) if names else ():
        for name in (frame.source, before.group, frame.group):
            if name in named and frame.source_sha256:
                named[name].add(frame.source_sha256)
    return named


def _side_of(places: Iterable[Place], *, has_val: bool) -> str:
    side = min((place.split for place in places), key=SIDES.index)
    return "train" if side == "val" and not has_val else side


def _most_common_fold(places: Iterable[Place]) -> list[int]:
    """The fold in which most of the places are, the lower one of two; none where no place has a fold."""
    counts = Counter(place.fold for place in places if place.fold is not None)
    return [max(counts, key=lambda fold: (counts[fold], -fold))] if counts else []


def _are_torn(places: Sequence[Place]) -> bool:
    folds = {place.fold for place in places if place.fold is not None}
    return len({place.split for place in places}) > 1 or len(folds) > 1
