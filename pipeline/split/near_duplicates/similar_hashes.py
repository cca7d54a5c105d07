"""Pairs of similar 64-bit hashes among millions, without comparing each with each.

The bits are cut into pieces, three more than may differ: then three pieces at least agree, whichever they are, and a
sort by each choice of three brings the pair together (multi-index hashing: Norouzi, Punjani, Fleet, CVPR 2012).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

AGREEING = 3
MAX_BITS = 6
FEWEST_PIECES = (
    7  # so that the three that agree are 27 bits at most, and leave 32 bits of the sorted word for a position
)
CHUNK = 1 << 21  # candidates that are looked at together: 16 MB an array

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]


def similar_hashes(hashes: Hashes, groups: Numbers, max_bits: int, mirror: int) -> tuple[Numbers, Numbers]:
    """Every two hashes that differ in at most `max_bits` bits, as they are or with one of them mirrored.

    Args:
        hashes: (n,) distinct values, n below 2^31.
        groups: (n,) two hashes of one group make no pair, but those of group -1 do.
        max_bits: at most 6.
        mirror: the bits that a mirrored picture has turned.

    Returns:
        The positions (m,) of the first and of the second of each pair, first < second, in sorted order.
    """
    both = np.concatenate([hashes, hashes ^ np.uint64(mirror)])
    found = np.empty(0, np.int64)
    for pieces in combinations(_pieces(max(FEWEST_PIECES, max_bits + AGREEING)), AGREEING):
        near = [found, *_near(both, groups, _key(both, pieces), max_bits)]
        found = np.unique(np.concatenate(near)) if len(near) > 1 else found
    first, second = np.divmod(found, max(1, len(hashes)))
    return first, second


def _pieces(number: int) -> list[tuple[int, int]]:
    """(lowest bit, width) of `number` pieces that are 64 bits together."""
    edges = [64 * piece // number for piece in range(number + 1)]
    return [(low, high - low) for low, high in pairwise(edges)]


def _key(hashes: Hashes, pieces: tuple[tuple[int, int], ...]) -> Hashes:
    key = np.zeros_like(hashes)
    for low, width in pieces:
        piece = hashes >> np.uint64(low) & np.uint64((1 << width) - 1)
        key = key << np.uint64(width) | piece
    return key


def _near(both: Hashes, groups: Numbers, key: Hashes, max_bits: int) -> Iterator[Numbers]:
    """Pairs with the same key that are near, as first * n + second."""
    n = len(groups)
    # Key and position in one word: sorting values is several times faster than sorting positions.
    words = np.sort(key << np.uint64(32) | np.arange(2 * n, dtype=np.uint64))
    places = (words & np.uint64(0xFFFFFFFF)).astype(np.int64)
    words >>= np.uint64(32)
    # Each entry meets those behind it with its key.
    last = np.flatnonzero(np.append(words[1:] != words[:-1], True))
    lengths = np.repeat(last, np.diff(last, prepend=-1)) - np.arange(2 * n)
    for at, behind in _expand(lengths):
        one, other = places[at], places[behind]
        first, second = np.minimum(one % n, other % n), np.maximum(one % n, other % n)
        meet = (np.minimum(one, other) < n) & (first != second)  # two mirrored ones are what the two others are
        meet &= (groups[first] != groups[second]) | (groups[first] < 0)
        meet[meet] = np.bitwise_count(both[one[meet]] ^ both[other[meet]]) <= max_bits
        if meet.any():
            yield first[meet] * n + second[meet]


def _expand(lengths: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
    """Each place with the `lengths[place]` places behind it, in chunks."""
    some = np.flatnonzero(lengths)
    totals = np.cumsum(lengths[some])
    at = 0
    while at < len(some):
        before = totals[at - 1] if at else 0
        stop = max(at + 1, int(np.searchsorted(totals, before + CHUNK, side="right")))
        part = lengths[some[at:stop]]
        places = np.repeat(some[at:stop], part)
        yield places, places + 1 + np.arange(len(places)) - np.repeat(np.cumsum(part) - part, part)
        at = stop
