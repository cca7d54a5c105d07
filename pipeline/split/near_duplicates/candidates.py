"""Candidates for near duplicates: similar hashes or shared local features propose a pair, and prove nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.base.manifest import Row
from pipeline.split.near_duplicates.features import DESCRIPTOR, MIRRORED, Features, unit_vectors
from pipeline.split.near_duplicates.similar_hashes import Integers, similar_hashes

MIRROR_BITS = 0x5555555555555555  # a mirror changes the sign of every second frequency along a row of the hash
GROUPS_PER_HASH = 4  # a group is compared with the next four that have the very same hash, and not with all
PAIRS_PER_GROUPS = 3  # pairs that are compared for two groups, since one confirmed pair is enough
PARTNERS = 8  # pictures that a picture is compared with: those that share most features

_TABLES = 4
_NEIGHBOURS = 4  # descriptors behind each that it is compared with, in the order of a table
_KEY_BITS = 32
_SAME_FEATURE = 0.9  # cosine of two descriptors
_SHARED = 3  # features that two pictures must share to be proposed
_CHUNK = 100_000  # descriptors, or pairs of descriptors, in one array


@dataclass(frozen=True, order=True)
class CandidatePair:
    """Two pictures that may be near duplicates, as positions in the rows, first < second."""

    first: int
    second: int


def numbered_groups(rows: Sequence[Row]) -> Integers:
    """The number of each row's group, (rows,); groups are numbered in the order of their names."""
    number_of = {group: index for index, group in enumerate(sorted({row.group for row in rows}))}
    return np.array([number_of[row.group] for row in rows], np.int64)


def propose_by_hashes(rows: Sequence[Row], max_bits: int) -> list[CandidatePair]:
    """Pairs of rows of different groups whose hashes differ in at most `max_bits` bits, perhaps with one mirrored.

    For two groups at most the three most similar pairs are returned, sorted.
    """
    groups = numbered_groups(rows)
    hashed = np.array([position for position, row in enumerate(rows) if row.phash], np.int64)
    hashes = np.array([int(rows[position].phash, 16) for position in hashed], np.uint64)
    first, second = _similar_rows(hashes, groups[hashed], max_bits)
    distance = np.bitwise_count(hashes[first] ^ hashes[second])
    distance = np.minimum(distance, np.bitwise_count(hashes[first] ^ hashes[second] ^ np.uint64(MIRROR_BITS)))
    first, second = hashed[first], hashed[second]
    keep = _best_of_groups(groups[first], groups[second], distance.astype(np.int64))
    return _pairs(first[keep], second[keep])


def propose_by_features(features: Mapping[int, Features], groups: Integers) -> list[CandidatePair]:
    """Pairs of pictures of different groups that share several local features, perhaps with one mirrored.

    Features find crops, which hashes do not. Random projections give each descriptor a key of signs, and similar
    descriptors lie close to one another in the order of the keys. Each descriptor is compared with its neighbours in
    a few such orders, so the work grows like a sort.

    Args:
        features: the features of the searched pictures, by the position of their row.
        groups: (rows,) the group number of every row.

    Returns:
        For every picture the eight that share most features with it, but at most three pairs for two groups; sorted.
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


def _similar_rows(hashes: NDArray[np.uint64], groups: Integers, max_bits: int) -> tuple[Integers, Integers]:
    """Positions of the rows of different groups with similar hashes, first < second."""
    order = np.lexsort((groups, hashes))
    starts_run = np.ones(len(order), bool)
    starts_run[1:] = (np.diff(hashes[order]) != 0) | (np.diff(groups[order]) != 0)
    representatives = order[starts_run]  # one row for every hash and group
    values, starts, counts = np.unique(hashes[representatives], return_index=True, return_counts=True)
    pairs = [
        (representatives[:-step][same], representatives[step:][same])
        for step in range(1, GROUPS_PER_HASH + 1)
        for same in [hashes[representatives[:-step]] == hashes[representatives[step:]]]
    ]
    only_group = np.where(counts == 1, groups[representatives[starts]], -1)
    left, right = similar_hashes(values, only_group, max_bits, MIRROR_BITS)
    for i in range(GROUPS_PER_HASH):
        for j in range(GROUPS_PER_HASH):
            both_exist = (counts[left] > i) & (counts[right] > j)
            a = representatives[starts[left[both_exist]] + i]
            b = representatives[starts[right[both_exist]] + j]
            apart = groups[a] != groups[b]
            pairs.append((a[apart], b[apart]))
    first, second = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return np.minimum(first, second), np.maximum(first, second)


def _orders(descriptors: NDArray[np.uint8]) -> Iterator[Integers]:
    """Orders of the n descriptors and of their mirrored selves, which are numbered from n on."""
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
    descriptors: NDArray[np.uint8], owner: Integers, groups: Integers, order: Integers
) -> Iterator[Integers]:
    """Similar neighbours of different groups in one order of the descriptors.

    Returns:
        (m, 2): first x rows + second of the pair of pictures, and first x n + second of the pair of descriptors.
    """
    n = len(owner)
    for step in range(1, _NEIGHBOURS + 1):
        for at in range(0, len(order) - step, _CHUNK):
            a = order[at : at + _CHUNK][: len(order) - step - at]
            b = order[at + step : at + step + len(a)]
            low, high = np.minimum(a, b), np.maximum(a, b)  # a mirrored descriptor is the high one
            apart = (low < n) & (groups[owner[low % n]] != groups[owner[high % n]])
            low, high = low[apart], high[apart]
            high_descriptors = descriptors[high % n]
            high_descriptors[high >= n] = high_descriptors[high >= n][:, MIRRORED]
            cosines = np.einsum("ij,ij->i", unit_vectors(descriptors[low]), unit_vectors(high_descriptors))
            alike = cosines >= _SAME_FEATURE
            low, high = low[alike], high[alike] % n
            first, second = np.minimum(low, high), np.maximum(low, high)
            yield np.stack([owner[first] * len(groups) + owner[second], first * n + second], axis=1)


def _best_of_groups(first: Integers, second: Integers, cost: Integers) -> NDArray[np.bool_]:
    """Which pairs are among those of least cost of their two groups."""
    return _rank((np.minimum(first, second), np.maximum(first, second)), cost) < PAIRS_PER_GROUPS


def _best_of_pictures(first: Integers, second: Integers, cost: Integers) -> NDArray[np.bool_]:
    """Which pairs are among those of least cost of one of their two pictures."""
    ranks = _rank((np.concatenate([first, second]),), np.concatenate([cost, cost]))
    return np.asarray(ranks.reshape(2, -1).min(axis=0) < PARTNERS)


def _rank(keys: tuple[Integers, ...], cost: Integers) -> Integers:
    """The rank of each entry among those with equal keys, 0 for the least cost."""
    order = np.lexsort((np.arange(len(cost)), cost, *keys))
    starts_run = np.zeros(len(order), bool)
    starts_run[:1] = True
    for key in keys:
        starts_run[1:] |= np.diff(key[order]) != 0
    starts = np.flatnonzero(starts_run)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return ranks


def _pairs(first: Integers, second: Integers) -> list[CandidatePair]:
    return sorted({CandidatePair(int(a), int(b)) for a, b in zip(first, second, strict=True)})
