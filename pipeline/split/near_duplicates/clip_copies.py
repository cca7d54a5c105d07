"""Copies of clips: small pictures or sound propose two clips, and the pixels of both at the same moments confirm them.

A copy may begin and end elsewhere, and be encoded again, resized, mirrored, or of another frame rate. Where it sounds
alike, it may be cropped too. What moves must move alike: two takes of one scene have the same background, and are no
copies. Nor are two clips in which the same song plays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.base.engine import each_anywhere
from pipeline.base.fingerprints import (
    RATE,
    SIDE,
    SOUND,
    Fingerprint,
    SoundFingerprint,
    fingerprint_path,
    read_fingerprint,
    read_sound,
)
from pipeline.base.manifest import Row
from pipeline.base.project import Project
from pipeline.split.near_duplicates.candidates import PARTNERS
from pipeline.split.near_duplicates.crops import Part, likely_parts
from pipeline.split.near_duplicates.same_sound import hashes_of_sound, offset_of_sound

LEAST_MATCHED = 4  # pictures at the same times
MANY_MATCHED = 8
LEAST_SECONDS = 0.7  # from the first of them to the last
SAME_MOTION = 0.7  # correlation of what differs from the mean picture, over all matched pictures
SAME_MOTION_OF_FEW = 0.8  # below MANY_MATCHED
SAME_PICTURE = 0.8  # correlation of the mean pictures
LEAST_MOTION = 0.01  # root mean square that the pictures differ from their mean, in units of a picture's contrast
_LEAST_CONTRAST = 4.0  # grey levels, standard deviation; what is flatter is not stretched further
_WEAK_BITS = 3  # of a hash that may be flipped
_CLIPS_PER_HASH = 8
_LOWEST = 8  # frequencies of a hash along each axis
_TRIED = 5  # offsets that are compared exactly
_ROWS_AT_ONCE = 2000  # of a matrix of products

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class ClipCopy:
    """Two clips that show the same recording."""

    sources: tuple[str, str]
    offset_seconds: float  # by which the second begins later in the recording than the first
    correlation: float  # of the motion, over the pictures at the same times
    seconds: float  # from the first such picture to the last
    mirrored: bool
    kept: float = 1.0  # share of each side of the larger picture that the smaller one shows; 1 where none is cropped
    proposed_by: str = "pictures"  # or "sound", where the pictures alone did not propose the two


@dataclass(frozen=True)
class CopySearch:
    """The copies that were found among the clips."""

    copies: tuple[ClipCopy, ...]  # sorted by source
    n_clips: int  # that have a fingerprint
    n_without: int  # clips without one
    n_proposed: int  # pairs of clips that were compared


def find_clip_copies(rows: Iterable[Row], project: Project) -> CopySearch:
    """Find the clips of different groups that show the same recording.

    The fingerprints are read twice, so that memory holds the hashes of all and the pictures of few.

    Args:
        rows: the frames of the data set, in their groups.
        project: the project whose `data/fingerprints` are read.

    Raises:
        DataError: a fingerprint is broken.
    """
    group_of = {row.source: row.group for row in rows if row.time_seconds is not None}

    sources = sorted(group_of)
    hashes = _known(sources, each_anywhere(partial(_hashes, project), sources, "reading fingerprints"))
    sounds = _known(sources, each_anywhere(partial(_sound_hashes, project), sources, "reading fingerprints of sound"))
    by_pictures = set(propose_clips(hashes, group_of))
    proposed = sorted(by_pictures.union(propose_clips(sounds, group_of)))
    pairs = [_ProposedPair(pair, needs_sound=pair not in by_pictures) for pair in proposed]
    answers = each_anywhere(partial(_compare, project), pairs, "comparing clips")
    copies = [copy for copy in answers if copy is not None]
    return CopySearch(tuple(copies), len(hashes), len(sources) - len(hashes), len(proposed))


@dataclass(frozen=True)
class _ProposedPair:
    """Two clips that may be copies of one another."""

    sources: tuple[str, str]
    needs_sound: bool  # since sound alone proposed them


def _hashes(project: Project, source: str) -> NDArray[np.uint64] | None:
    fingerprint = _pictures(source, project)
    return None if fingerprint is None else hashes_of_clip(fingerprint.pictures)


def _sound_hashes(project: Project, source: str) -> NDArray[np.uint64] | None:
    sound = _sound(source, project)
    return None if sound is None else hashes_of_sound(sound)


def _known(sources: Iterable[str], hashes: Iterable[NDArray[np.uint64] | None]) -> dict[str, NDArray[np.uint64]]:
    return {source: of_clip for source, of_clip in zip(sources, hashes, strict=True) if of_clip is not None}


def _pictures(source: str, project: Project) -> Fingerprint | None:
    return read_fingerprint(fingerprint_path(source, project))


def _sound(source: str, project: Project) -> SoundFingerprint | None:
    return read_sound(fingerprint_path(source, project, SOUND))


def _compare(project: Project, pair: _ProposedPair) -> ClipCopy | None:
    """Confirm a proposed pair; one that sound alone proposed must sound alike from beginning to end."""
    first, second = (_pictures(source, project) for source in pair.sources)
    sounds = [_sound(source, project) for source in pair.sources]
    offset_seconds = None if sounds[0] is None or sounds[1] is None else offset_of_sound(sounds[0], sounds[1])
    if first is None or second is None or (pair.needs_sound and offset_seconds is None):
        return None
    copy = confirm(pair.sources, first, second)
    if copy is None and offset_seconds is not None:
        copy = confirm_crop(pair.sources, first, second, offset_seconds)
    return replace(copy, proposed_by="sound") if copy and pair.needs_sound else copy


def propose_clips(
    hashes_by_source: Mapping[str, NDArray[np.uint64]], group_of: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Pairs of sources of different groups with similar small pictures: for each clip the eight that share most.

    Returns:
        Sorted pairs, each sorted.
    """
    sources = sorted(hashes_by_source)
    number_of = {group: index for index, group in enumerate(sorted(set(group_of.values())))}
    groups = np.array([number_of[group_of[source]] for source in sources], np.int64)
    hashes = np.concatenate([np.zeros(0, np.uint64), *(hashes_by_source[source] for source in sources)])
    clip_of = np.repeat(np.arange(len(sources)), [len(hashes_by_source[source]) for source in sources])
    order = np.argsort(hashes, kind="stable")
    hashes, clip_of = hashes[order], clip_of[order]
    # Of the clips with one hash, such as that of a black picture, each is paired with the next few and not with all.
    pairs = np.concatenate([
        np.stack([clip_of[:-step][together], clip_of[step:][together]], axis=1)
        for step in range(1, _CLIPS_PER_HASH + 1)
        for together in [(hashes[:-step] == hashes[step:]) & (groups[clip_of[:-step]] != groups[clip_of[step:]])]
    ])  # fmt: skip
    pairs, shared = np.unique(pairs, axis=0, return_counts=True)
    best: Counter[int] = Counter()
    chosen = set()
    for position in np.lexsort((pairs[:, 1], pairs[:, 0], -shared)).tolist():
        first, second = pairs[position].tolist()
        if min(best[first], best[second]) < PARTNERS:
            best.update((first, second))
            chosen.add((sources[first], sources[second]))
    return sorted(chosen)


def hashes_of_clip(pictures: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The different hashes of a clip's small pictures, (n, 16, 16) uint8, and of their mirror images.

    A hash says which of the lowest frequencies lie above their median. Encoding flips bits of frequencies near the
    median, so that each picture also has the hashes with one of its three weakest bits flipped. Equal hashes are
    found by sorting, where similar ones would have to be compared.
    """
    basis = cv2.dct(np.eye(SIDE, dtype=np.float64))[:_LOWEST]
    both = np.concatenate([pictures, pictures[:, :, ::-1]]).astype(np.float64)
    lowest = np.round(basis @ both @ basis.T, 3).reshape(len(both), -1)
    margins = lowest - np.median(lowest, axis=1, keepdims=True)
    hashes = np.packbits(margins > 0, axis=1).view(">u8")[:, 0].astype(np.uint64)
    weakest = np.argsort(np.abs(margins), axis=1, kind="stable")[:, :_WEAK_BITS]
    flipped = hashes[:, None] ^ (np.uint64(1) << (63 - weakest).astype(np.uint64))
    return np.unique(np.concatenate([hashes, flipped.ravel()]))


def confirm(sources: tuple[str, str], first: Fingerprint, second: Fingerprint) -> ClipCopy | None:
    """Lay two clips over one another in time; None unless their pixels agree and move alike.

    Args:
        sources: of the two clips.
        first: the fingerprint of the first clip.
        second: the fingerprint of the second clip.
    """
    if min(len(first.pictures), len(second.pictures)) < LEAST_MATCHED:
        return None
    best: ClipCopy | None = None
    b = _of_equal_contrast(second)
    for mirrored in (False, True):
        a = _of_equal_contrast(replace(first, pictures=first.pictures[:, :, ::-1]) if mirrored else first)
        for tick in _likely_offsets(a, b):
            copy = _copy_at(sources, a, b, tick / RATE)
            if copy is not None and (best is None or copy.correlation > best.correlation):
                best = replace(copy, mirrored=mirrored)
    return best


def confirm_crop(
    sources: tuple[str, str], first: Fingerprint, second: Fingerprint, offset_seconds: float
) -> ClipCopy | None:
    """Lay a part of one clip over the other at a known offset; None unless their pixels agree and move alike.

    Args:
        sources: of the two clips.
        first: the fingerprint of the first clip.
        second: the fingerprint of the second clip.
        offset_seconds: by which the second begins later in the recording than the first, as their sound says.
    """
    i, j = _at_same_times(first.milliseconds, second.milliseconds + round(offset_seconds * 1000))
    if len(i) < LEAST_MATCHED:
        return None
    best: ClipCopy | None = None
    for mirrored in (False, True):
        pictures_a, b = first.pictures[i], Fingerprint(second.milliseconds[j], second.pictures[j])
        a = Fingerprint(first.milliseconds[i], pictures_a[:, :, ::-1] if mirrored else pictures_a)
        tried = [(_cut(a, part), b, part) for part in likely_parts(a.pictures, b.pictures)]
        tried += [(a, _cut(b, part), part) for part in likely_parts(b.pictures, a.pictures)]
        for one, other, part in tried:
            copy = _copy_at(sources, _of_equal_contrast(one), _of_equal_contrast(other), offset_seconds)
            if copy is not None and (best is None or copy.correlation > best.correlation):
                best = replace(copy, mirrored=mirrored, kept=part.kept)
    return best


def _cut(fingerprint: Fingerprint, part: Part) -> Fingerprint:
    return Fingerprint(fingerprint.milliseconds, part.of(fingerprint.pictures))


@dataclass(frozen=True)
class _Levels:
    """The small pictures of a clip with a mean of 0 and a deviation of 1, so that a change of light is no motion."""

    milliseconds: Integers  # (n,)
    values: NDArray[np.float32]  # (n, pixels)


def _copy_at(sources: tuple[str, str], first: _Levels, second: _Levels, offset_seconds: float) -> ClipCopy | None:
    """The copy that the two clips are at one offset; None where their pixels differ or move otherwise."""
    i, j = _at_same_times(first.milliseconds, second.milliseconds + round(offset_seconds * 1000))
    if len(i) < LEAST_MATCHED:
        return None
    motion = _agreement(first.values[i], second.values[j])
    seconds = float(np.ptp(first.milliseconds[i])) / 1000
    needed = SAME_MOTION if len(i) >= MANY_MATCHED else SAME_MOTION_OF_FEW
    if motion is None or motion < needed or seconds < LEAST_SECONDS:
        return None
    return ClipCopy(sources, offset_seconds, round(motion, 3), round(seconds, 3), mirrored=False)


def _of_equal_contrast(fingerprint: Fingerprint) -> _Levels:
    values = fingerprint.pictures.reshape(len(fingerprint.pictures), -1).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    levelled = values / np.maximum(values.std(axis=1, keepdims=True), _LEAST_CONTRAST)
    return _Levels(fingerprint.milliseconds, np.asarray(levelled, np.float32))


def _likely_offsets(first: _Levels, second: _Levels) -> list[int]:
    """The offsets, in tenths of a second, at which the motion of two clips correlates best."""
    a, b = (clip.values - clip.values.mean(axis=0) for clip in (first, second))
    a_ticks, b_ticks = (np.round(clip.milliseconds * RATE / 1000).astype(np.int64) for clip in (first, second))
    lowest = int(a_ticks[0] - b_ticks[-1])
    n_offsets = int(a_ticks[-1] - b_ticks[0]) - lowest + 1
    product, energy_a, energy_b, count = (np.zeros(n_offsets) for _ in range(4))
    squares_a, squares_b = (np.einsum("ij,ij->i", motion, motion) for motion in (a, b))
    for start in range(0, len(a), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        offset = (a_ticks[rows, None] - b_ticks - lowest).ravel()
        shape = (len(a_ticks[rows]), len(b_ticks))
        product += np.bincount(offset, (a[rows] @ b.T).ravel(), n_offsets)
        energy_a += np.bincount(offset, np.broadcast_to(squares_a[rows, None], shape).ravel(), n_offsets)
        energy_b += np.bincount(offset, np.broadcast_to(squares_b, shape).ravel(), n_offsets)
        count += np.bincount(offset, minlength=n_offsets)
    correlation = np.where(count >= LEAST_MATCHED, product / np.sqrt(np.maximum(energy_a * energy_b, 1e-12)), -1.0)
    return [int(tick) + lowest for tick in np.argsort(-correlation, kind="stable")[:_TRIED]]


def _at_same_times(a_ms: Integers, b_ms: Integers) -> tuple[Integers, Integers]:
    """Positions of pictures whose times differ by half a tick at most."""
    after = np.searchsorted(b_ms, a_ms).clip(1, max(1, len(b_ms) - 1))
    before_is_nearer = np.abs(b_ms[after - 1] - a_ms) <= np.abs(b_ms[after.clip(max=len(b_ms) - 1)] - a_ms)
    nearest = np.where(before_is_nearer, after - 1, after.clip(max=len(b_ms) - 1))
    close = np.abs(b_ms[nearest] - a_ms) <= 500 // RATE
    return np.flatnonzero(close), nearest[close]


def _agreement(a: NDArray[np.float32], b: NDArray[np.float32]) -> float | None:
    """How well the motion of matched pictures agrees, -1 to 1; None where nothing moves or the mean pictures differ."""
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    lengths = float(np.linalg.norm(mean_a) * np.linalg.norm(mean_b))  # the mean of each is 0 already
    if float(mean_a @ mean_b) < SAME_PICTURE * lengths or lengths == 0:
        return None
    motion_a, motion_b = (a - mean_a).ravel(), (b - mean_b).ravel()
    energies = float(motion_a @ motion_a), float(motion_b @ motion_b)
    if min(energies) <= LEAST_MOTION**2 * motion_a.size:
        return None
    return float(motion_a @ motion_b) / float(np.sqrt(energies[0] * energies[1]))
