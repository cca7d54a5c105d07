"""Which pictures may be near duplicates: hashes and local features propose, and prove nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.base.manifest import Row
from pipeline.split.near_duplicates.features import DESCRIPTOR, MIRRORED, Features, unit
from pipeline.split.near_duplicates.similar_hashes import Numbers, similar_hashes

MIRROR_BITS = 0x5555555555555555  # a mirror changes the sign of every second frequency along a row of the hash
SHOWN_PER_HASH = 4  # groups with the very same hash are compared with the next four, not all with all
PAIRS_PER_GROUPS = 3  # pictures that are compared for two groups: one confirmed pair is enough
PARTNERS = 8  # of a picture, those that share most features

_TABLES = 4
_NEIGHBOURS = 4  # in the order of a table
_KEY_BITS = 32
_SAME_FEATURE = 0.9  # cosine of two descriptors
_SHARED = 3  # features that two pictures share before they are proposed
_CHUNK = 100_000  # descriptors, or pairs of them, that are looked at together


@dataclass(frozen=True, order=True)
class Pair:
    """Two pictures, by their positions in the rows, first < second."""

    first: int
    second: int


def propose(rows: Sequence[Row], max_bits: int) -> list[Pair]:
    """Pairs of rows of different groups whose hashes, or one and the other's mirror, differ in few bits.

    Of two groups the most similar three pairs are given, sorted.
    """
    numbered = {group: number for number, group in enumerate(sorted({row.group for row in rows}))}
    groups = np.array([numbered[row.group] for row in rows], np.int64)
    hashed = np.array([position for position, row in enumerate(rows) if row.phash], np.int64)
    hashes = np.array([int(rows[position].phash, 16) for position in hashed], np.uint64)
    first, second = _similar_rows(hashes, groups[hashed], max_bits)
    distance = np.bitwise_count(hashes[first] ^ hashes[second])
    distance = np.minimum(distance, np.bitwise_count(hashes[first] ^ hashes[second] ^ np.uint64(MIRROR_BITS)))
    first, second = hashed[first], hashed[second]
    keep = _best_of_groups(groups[first], groups[second], distance.astype(np.int64))
    return _pairs(first[keep], second[keep])


def propose_by_features(features: Mapping[int, Features], groups: Numbers) -> list[Pair]:
    """Pairs of pictures of different groups that share several local features, one of them mirrored perhaps.

    Finds crops, which hashes do not. Similar descriptors lie close to one another in the order of some random
    projection's signs; each is compared with its neighbours in a few such orders, so the work grows like a sort.

    Args:
        features: of each picture looked at, by its position in the rows.
        groups: (rows,) the group number of every row.

    Returns:
        For every picture the eight that share most, but at most three pairs for two groups; sorted.
    """
    positions = np.array(sorted(features), np.int64)
    counts = [len(features[position].descriptors) for position in positions]
    owner = np.repeat(positions, counts)
    descriptors = np.concatenate([np.zeros((0, DESCRIPTOR), np.uint8), *(features[p].descriptors for p in positions)])
    shared = [np.zeros((0, 2), np.int64)]
    for order in _orders(descriptors):
        shared += _same_features(descriptors, owner, groups, order)
    n = len(groups)
    together, votes = np.unique(np.unique(np.concatenate(shared), axis=0)[:, 0], return_counts=True)
    together, votes = together[votes >= _SHARED], votes[votes >= _SHARED]
    first, second = np.divmod(together, max(1, n))
    keep = _best_of_groups(groups[first], groups[second], -votes)
    first, second, votes = first[keep], second[keep], votes[keep]
    keep = _best_of_pictures(first, second, -votes)
    return _pairs(first[keep], second[keep])


def _similar_rows(hashes: NDArray[np.uint64], groups: Numbers, max_bits: int) -> tuple[Numbers, Numbers]:
    """Positions of similar hashes of different groups, first < second."""
    order = np.lexsort((groups, hashes))
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(hashes[order]) != 0) | (np.diff(groups[order]) != 0)
    shown = order[new]  # one row for every hash and group
    values, starts, counts = np.unique(hashes[shown], return_index=True, return_counts=True)
    pairs = [
        (shown[:-step][same], shown[step:][same])
        for step in range(1, SHOWN_PER_HASH + 1)
        for same in [hashes[shown[:-step]] == hashes[shown[step:]]]
    ]
    only_group = np.where(counts == 1, groups[shown[starts]], -1)
    one, other = similar_hashes(values, only_group, max_bits, MIRROR_BITS)
    for i in range(SHOWN_PER_HASH):
        for j in range(SHOWN_PER_HASH):
            there = (counts[one] > i) & (counts[other] > j)
            a, b = shown[starts[one[there]] + i], shown[starts[other[there]] + j]
            apart = groups[a] != groups[b]
            pairs.append((a[apart], b[apart]))
    first, second = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return np.minimum(first, second), np.maximum(first, second)


def _orders(descriptors: NDArray[np.uint8]) -> Iterator[Numbers]:
    """Orders of the descriptors and, numbered on from there, of their mirrored selves."""
    if not len(descriptors):
        return
    mean = descriptors.mean(axis=0, dtype=np.float64)
    mean = ((mean + mean[MIRRORED]) / 2).astype(np.float32)
    generator = np.random.default_rng(0)
    for _ in range(_TABLES):
        directions = generator.standard_normal((DESCRIPTOR, _KEY_BITS)).astype(np.float32)
        keys = np.concatenate([_signs(descriptors, directions, mean), _signs(descriptors, directions[MIRRORED], mean)])
        yield np.argsort(keys, kind="stable")


def _signs(
    descriptors: NDArray[np.uint8], directions: NDArray[np.float32], mean: NDArray[np.float32]
) -> NDArray[np.uint32]:
    parts = [
        np.packbits((descriptors[at : at + _CHUNK] - mean) @ directions > 0, axis=1).view(">u4")[:, 0]
        for at in range(0, len(descriptors), _CHUNK)
    ]
    return np.concatenate(parts).astype(np.uint32)


def _same_features(
    descriptors: NDArray[np.uint8], owner: Numbers, groups: Numbers, order: Numbers
) -> Iterator[Numbers]:
    """Neighbours in the order that are alike and of different groups: (m, 2), the pictures' pair and the features'."""
    n = len(owner)
    for step in range(1, _NEIGHBOURS + 1):
        for at in range(0, len(order) - step, _CHUNK):
            a = order[at : at + _CHUNK][: len(order) - step - at]
            b = order[at + step : at + step + len(a)]
            low, high = np.minimum(a, b), np.maximum(a, b)  # the mirrored one, if any, is high
            apart = (low < n) & (groups[owner[low % n]] != groups[owner[high % n]])
            low, high = low[apart], high[apart]
            there = descriptors[high % n]
            there[high >= n] = there[high >= n][:, MIRRORED]
            alike = np.einsum("ij,ij->i", unit(descriptors[low]), unit(there)) >= _SAME_FEATURE
            one, other = low[alike], high[alike] % n
            one, other = np.minimum(one, other), np.maximum(one, other)
            yield np.stack([owner[one] * len(groups) + owner[other], one * n + other], axis=1)


def _best_of_groups(first: Numbers, second: Numbers, badness: Numbers) -> NDArray[np.bool_]:
    """Which pairs are among the best of their two groups."""
    return _rank((np.minimum(first, second), np.maximum(first, second)), badness) < PAIRS_PER_GROUPS


def _best_of_pictures(first: Numbers, second: Numbers, badness: Numbers) -> NDArray[np.bool_]:
    """Which pairs are among the best of one of their two pictures."""
    ranks = _rank((np.concatenate([first, second]),), np.concatenate([badness, badness]))
    return np.asarray(ranks.reshape(2, -1).min(axis=0) < PARTNERS)


def _rank(keys: tuple[Numbers, ...], badness: Numbers) -> Numbers:
    """The position of each among those with equal keys, from 0 for the least bad."""
    order = np.lexsort((np.arange(len(badness)), badness, *keys))
    new = np.zeros(len(order), bool)
    new[:1] = True
    for key in keys:
        new[1:] |= np.diff(key[order]) != 0
    starts = np.flatnonzero(new)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return ranks


def _pairs(first: Numbers, second: Numbers) -> list[Pair]:
    return sorted({Pair(int(a), int(b)) for a, b in zip(first, second, strict=True)})
