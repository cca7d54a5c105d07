"""Similar hashes: every similar pair is found and no other, as by comparing each hash with each."""

from __future__ import annotations

import numpy as np
import pytest

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
    assert np.array_equal(similar_hashes(crowded, groups, max_bits, mirror), expected)
