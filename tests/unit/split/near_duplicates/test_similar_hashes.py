"""Similar hashes: all of them are found, and no others, without comparing each with each."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.base.manifest import Row
from pipeline.split.near_duplicates.candidates import MIRROR_BITS, SHOWN_PER_HASH, Pair, propose
from pipeline.split.near_duplicates.similar_hashes import similar_hashes


@pytest.mark.parametrize("max_bits", [0, 1, 4, 6])
@pytest.mark.parametrize("mirror", [0, 0x51F1])
def test_every_similar_pair_is_found_and_no_other(max_bits: int, mirror: int) -> None:
    generator = np.random.default_rng(max_bits)
    crowded = np.unique(generator.integers(0, 2**64, 400, dtype=np.uint64) & np.uint64(0xF0F0F1F1))
    groups = generator.integers(-1, 100, len(crowded))
    apart = (groups[:, None] != groups) | (groups[:, None] < 0)
    different = crowded[:, None] ^ crowded
    bits = np.minimum(np.bitwise_count(different), np.bitwise_count(different ^ np.uint64(mirror)))
    expected = np.nonzero(np.triu((bits <= max_bits) & apart, 1))
    found = similar_hashes(crowded, groups, max_bits, mirror)
    assert np.array_equal(found, expected)


def _rows(*hashes: tuple[str, int]) -> list[Row]:
    return [Row(f"{i:06}.jpg", "a", "", "", group, phash=f"{value:016x}") for i, (group, value) in enumerate(hashes)]


def test_mirrored_hashes_propose_and_distant_ones_do_not() -> None:
    rows = _rows(("a", 0xF00F), ("b", 0xF00F ^ MIRROR_BITS ^ 3), ("c", 0xFFFF0000FFFF0000), ("d", 0))
    assert propose(rows, 4) == [Pair(0, 1)]


def test_a_thousand_clips_with_one_black_frame_do_not_propose_half_a_million_pairs() -> None:
    pairs = propose(_rows(*((f"clip{number}", 0) for number in range(1000))), 4)
    assert 999 <= len(pairs) <= 1000 * SHOWN_PER_HASH


def test_rows_without_hashes_propose_nothing() -> None:
    rows = [Row(f"{i}.jpg", "a", "", "", f"{i}") for i in range(3)]
    assert propose(rows, 4) == []
