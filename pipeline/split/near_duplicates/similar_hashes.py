"""Pairs of similar 64-bit hashes among millions, without comparing each with each.

The 64 bits are cut into pieces, three more than bits may differ. At least three pieces of a similar pair then agree,
and a sort by each choice of three brings the pair together (multi-index hashing: Norouzi, Punjani, Fleet, CVPR 2012).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

AGREEING = 3
FEWEST_PIECES = 7  # three agreeing pieces are then at most 28 bits, and leave 32 of the sorted word for a position
CHUNK = 1 << 21  # candidate pairs in one array of 16 MB

Hashes = NDArray[np.uint64]
Integers = NDArray[np.int64]


def similar_hashes(hashes: Hashes, groups: Integers, max_bits: int, mirror: int) -> tuple[Integers, Integers]:
    """Find every two hashes that differ in at most `max_bits` bits, as they are or with one of them mirrored.

    Args:
        hashes: (n,) distinct values, n below 2^31.
        groups: (n,) the group of each hash. Two hashes of one group make no pair, but two of group -1 do.
        max_bits: bits that may differ, at most 6.
        mirror: the bits of a hash that are inverted in the mirror image.

    Returns:
        The positions (m,) of the first and of the second of each pair, first < second, in sorted order.
    """
    both = np.concatenate([hashes, hashes ^ np.uint64(mirror)])
    pairs = np.empty(0, np.int64)
    for pieces in combinations(_pieces(max(FEWEST_PIECES, max_bits + AGREEING)), AGREEING):
        parts = [pairs, *_near_pairs(both, groups, _key(both, pieces), max_bits)]
        pairs = np.unique(np.concatenate(parts)) if len(parts) > 1 else pairs
    first, second = np.divmod(pairs, max(1, len(hashes)))
    return first, second


def _pieces(n_pieces: int) -> list[tuple[int, int]]:
    """(lowest bit, width) of each of `n_pieces` pieces that are 64 bits together."""
    edges = [64 * piece // n_pieces for piece in range(n_pieces + 1)]
    return [(low, high - low) for low, high in pairwise(edges)]


def _key(hashes: Hashes, pieces: tuple[tuple[int, int], ...]) -> Hashes:
    key = np.zeros_like(hashes)
    for low, width in pieces:
        piece = hashes >> np.uint64(low) & np.uint64((1 << width) - 1)
        key = key << np.uint64(width) | piece
    return key


def _near_pairs(both: Hashes, groups: Integers, key: Hashes, max_bits: int) -> Iterator[Integers]:
    """Pairs with equal keys that differ in few bits, as first * n + second."""
    n = len(groups)
    # Key and position in one word: sorting values is several times faster than sorting positions.
    words = np.sort(key << np.uint64(32) | np.arange(2 * n, dtype=np.uint64))
    positions = (words & np.uint64(0xFFFFFFFF)).astype(np.int64)
    words >>= np.uint64(32)
    # Each entry is compared with the entries behind it that have its key.
    last = np.flatnonzero(np.append(words[1:] != words[:-1], True))
    lengths = np.repeat(last, np.diff(last, prepend=-1)) - np.arange(2 * n)
    for ahead, behind in _entries_with_followers(lengths):
        a, b = positions[ahead], positions[behind]
        first, second = np.minimum(a % n, b % n), np.maximum(a % n, b % n)
        near = (np.minimum(a, b) < n) & (first != second)  # two mirrored hashes differ as the two hashes do
        near &= (groups[first] != groups[second]) | (groups[first] < 0)
        near[near] = np.bitwise_count(both[a[near]] ^ both[b[near]]) <= max_bits
        if near.any():
            yield first[near] * n + second[near]


def _entries_with_followers(lengths: Integers) -> Iterator[tuple[Integers, Integers]]:
    """Each entry, repeated, beside each of the `lengths[entry]` entries behind it, in chunks."""
    followed = np.flatnonzero(lengths)
    totals = np.cumsum(lengths[followed])
    start = 0
    while start < len(followed):
        before = totals[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(totals, before + CHUNK, side="right")))
        part = lengths[followed[start:stop]]
        entries = np.repeat(followed[start:stop], part)
        yield entries, entries + 1 + np.arange(len(entries)) - np.repeat(np.cumsum(part) - part, part)
        start = stop
