"""Proposals: which photos show one object, and which clips are one recording, by what the manifest says of them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise

from pipeline.base.manifest import Row
from pipeline.split.chapters import chapters
from pipeline.split.grouping import root_of_group
from pipeline.split.sources import Link, Run, Source, sources_of

BURST = "photos of one burst"
LIVE_PHOTO = "photo and clip of one Live Photo"
NAMES = "names alike but for their last number"
TIMES = "times of one camera"

FEWEST_GROUPS = 3  # that names or times must leave in a class: one for each side
LARGE_GROUP = 20  # photos; two groups of which one is larger may not hold more than half of a class
SURE_SECONDS = 10.0  # photos of one camera that are closer show one object where no break stands out
LONGEST_SECONDS = 30.0  # that may separate two photos of one object
SHORTEST_SECONDS = 5.0  # differences between shorter times tell nothing
BREAK = 3.0  # times as long as the times before it: a way to the next object

_LAST_NUMBER = re.compile(r"(.*?)(\d+)(\D*)", re.DOTALL)
_LONGEST_COUNTER = 6  # digits; a longer number is an identifier
_CAMERAS_COUNTER = re.compile(r"(?:[A-Za-z_]{3,4}|IMG_E)\d{4,5}\D*")  # IMG_0412, DSC01234
_MESSENGERS_COUNTER = re.compile(r"-WA$")  # IMG-20230405-WA0012
_ENDS_IN_TIME = re.compile(r"(?:19|20)\d\d[-_.]?\d\d[-_.]?\d\d(?:[-_. T]|at)*(?:\d\d[-_.:h]?){0,2}$")


@dataclass(frozen=True)
class Proposals:
    """What the rules join, and what they would join if it were not the numbering of the data set."""

    links: tuple[Link, ...]
    left_apart: tuple[str, ...]  # what each would be, in words
    n_across_folders: int = 0  # pairs of one recording or object whose folders belong to two sides


def propose(frames: Sequence[Row], confirmed: AbstractSet[str], *, photos: bool, within_given: bool) -> Proposals:
    """Propose which groups are one. Nothing is proposed across classes.

    Args:
        frames: the rows of all frames.
        confirmed: sources whose group a person named; nothing is proposed for these.
        photos: whether photos are joined; chapters of clips always are.
        within_given: whether only sources in folders of one side may be joined.
    """
    sources = sources_of(frames)
    if not within_given:
        joiner = _join(sources, confirmed, photos=photos)
        return Proposals(tuple(joiner.links), tuple(joiner.left_apart))
    by_side: dict[str, list[Source]] = defaultdict(list)
    for source in sources:
        by_side[source.given_split].append(source)
    joiners = [_join(of_side, confirmed, photos=photos) for of_side in by_side.values()]
    side_of = {source.group: source.given_split for source in sources}
    across = (side_of[link.first] != side_of[link.second] for link in _join(sources, confirmed, photos=photos).links)
    return Proposals(
        tuple(link for joiner in joiners for link in joiner.links),
        tuple(sentence for joiner in joiners for sentence in joiner.left_apart),
        sum(across),
    )


def _join(sources: Sequence[Source], confirmed: AbstractSet[str], *, photos: bool) -> _Joiner:
    open_sources = [source for source in sources if source.name not in confirmed]
    joiner = _Joiner(sources)
    joiner.join(chapters([source for source in open_sources if not source.is_photo]))
    if photos:
        joiner.join(_bursts(open_sources))
        joiner.join_guarded(_alike_names([source for source in open_sources if source.is_photo]))
        joiner.join_guarded(_close_times([source for source in sources if source.is_photo], confirmed))
    return joiner


class _Joiner:
    """Joins runs to groups, and keeps the numbering of a data set from joining a class."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.links: list[Link] = []
        self.left_apart: list[str] = []
        self._root_of: dict[str, str] = {source.group: source.group for source in sources}
        self._of_class: dict[str, list[Source]] = defaultdict(list)
        for source in sources:
            self._of_class[source.label].append(source)

    def join(self, runs: Iterable[Run]) -> None:
        """Join the sources of each run."""
        for run in runs:
            self.links += [Link(first.group, second.group, run.reason) for first, second in pairwise(run.sources)]
            _unite(self._root_of, (source.group for source in run.sources))

    def join_guarded(self, runs: Iterable[Run]) -> None:
        """Join runs of photos unless they look like the numbering of their class."""
        of_class: dict[str, list[Run]] = defaultdict(list)
        for run in runs:
            of_class[run.label].append(run)
        for label, runs_of_class in of_class.items():
            n_photos = sum(source.is_photo for source in self._of_class[label])
            small = []
            for run in runs_of_class:
                if 2 * len(run.sources) > n_photos:
                    self._leave_apart(run, f"{len(run.sources)} of the {n_photos} photos of {label!r}")
                else:
                    small.append(run)
            if small and self._would_hold_too_much(label, small, n_photos):
                largest = max(small, key=lambda run: len(run.sources))
                self._leave_apart(largest, f"{len(largest.sources)} photos of {label!r}, and others like them")
            else:
                self.join(small)

    def _would_hold_too_much(self, label: str, runs: Iterable[Run], n_photos: int) -> bool:
        """Whether runs would leave too few groups of a class, or two large ones with most of its photos."""
        root_of = {root: root for root in map(self._root, self._of_class[label])}
        for run in runs:
            _unite(root_of, map(self._root, run.sources))
        photos_of = dict.fromkeys((root_of_group(root_of, root) for root in list(root_of)), 0)
        for source in self._of_class[label]:
            photos_of[root_of_group(root_of, self._root(source))] += source.is_photo
        largest, second, *_ = *sorted(photos_of.values(), reverse=True), 0, 0
        return len(photos_of) < FEWEST_GROUPS or (largest > LARGE_GROUP and 2 * (largest + second) > n_photos)

    def _root(self, source: Source) -> str:
        return root_of_group(self._root_of, source.group)

    def _leave_apart(self, run: Run, photos: str) -> None:
        self.left_apart.append(f"{photos} ({run.reason}: {run.name}), which look like the numbering of a data set")


def counter_in(stem: str) -> tuple[str, str] | None:
    """What stands before and after the last number of a file's name, where the number counts pictures of something.

    Returns:
        None for a name without a number, for one that a camera or a messenger numbered, and where the last number is
        a time or an identifier.
    """
    if _CAMERAS_COUNTER.fullmatch(stem):
        return None
    last = _LAST_NUMBER.fullmatch(stem)
    if last is None or len(last[2]) > _LONGEST_COUNTER:
        return None
    before = last[1]
    return None if _MESSENGERS_COUNTER.search(before) or _ENDS_IN_TIME.search(before) else (before, last[3])


def longest_pause(pauses: Iterable[float]) -> float:
    """The longest time between two photos of one object, from the times between a camera's photos of one class.

    It is the time before the first break that stands out; without such a break it is SURE_SECONDS.
    """
    for shorter, longer in pairwise(sorted(pauses)):
        if shorter > LONGEST_SECONDS:
            break
        if longer >= BREAK * max(shorter, SHORTEST_SECONDS):
            return shorter
    return SURE_SECONDS


def _bursts(sources: Iterable[Source]) -> Iterator[Run]:
    """Yield the photos of each burst, and the photo and clip of each Live Photo."""
    sources_of_burst: dict[tuple[str, str], list[Source]] = defaultdict(list)
    for source in sources:
        for burst in source.burst_ids:
            sources_of_burst[source.label, burst].append(source)
    for (_, burst), run in sources_of_burst.items():
        if len(run) > 1:
            yield Run(tuple(run), BURST if burst.startswith("burst=") else LIVE_PHOTO, burst)


def _alike_names(photos: Iterable[Source]) -> Iterator[Run]:
    photos_of_name: dict[tuple[str, str, str, str], list[Source]] = defaultdict(list)
    for photo in photos:
        counter = counter_in(photo.stem)
        if counter is not None:
            photos_of_name[photo.label, photo.folder, *counter].append(photo)
    for (_, _, before, after), run in photos_of_name.items():
        if len(run) > 1:
            yield Run(tuple(run), NAMES, f"{before}#{after}")


def _close_times(photos: Iterable[Source], confirmed: AbstractSet[str]) -> Iterator[Run]:
    """Yield photos that one camera took one after another, with no photo of another class between them."""
    of_camera: dict[tuple[str, bool], list[Source]] = defaultdict(list)
    for photo in photos:
        if photo.camera and photo.recorded_at is not None:
            of_camera[photo.camera, photo.recorded_at.tzinfo is not None].append(photo)
    for (camera, _), taken in of_camera.items():
        ordered = sorted(taken, key=lambda photo: (photo.recorded_at, photo.name))
        pauses = {
            second.name: pause for first, second in pairwise(ordered) for pause in _pause(first, second, confirmed)
        }
        yield from _runs(ordered, pauses, longest_pause(pauses.values()), camera)


def _pause(first: Source, second: Source, confirmed: AbstractSet[str]) -> Iterator[float]:
    """Yield the seconds between two photos that may show one object."""
    is_open = first.name not in confirmed and second.name not in confirmed
    if is_open and first.label == second.label and first.recorded_at and second.recorded_at:
        yield (second.recorded_at - first.recorded_at).total_seconds()


def _runs(ordered: Sequence[Source], pauses: Mapping[str, float], longest: float, camera: str) -> Iterator[Run]:
    reason = f"{TIMES}, at most {max(longest, 1):.0f} s apart"
    run: list[Source] = []
    for photo in ordered:
        if run and pauses.get(photo.name, longest + 1) > longest:
            if len(run) > 1:
                yield Run(tuple(run), reason, camera)
            run = []
        run.append(photo)
    if len(run) > 1:
        yield Run(tuple(run), reason, camera)


def _unite(root_of: dict[str, str], groups: Iterable[str]) -> None:
    for first, second in pairwise(groups):
        kept, joined = sorted((root_of_group(root_of, first), root_of_group(root_of, second)))
        root_of[joined] = kept
