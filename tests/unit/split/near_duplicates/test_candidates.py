"""Candidates for near duplicates: which pairs similar hashes propose, and how few of very many."""

from __future__ import annotations

from pipeline.base.manifest import Row
from pipeline.split.near_duplicates.candidates import GROUPS_PER_HASH, MIRROR_BITS, CandidatePair, propose_by_hashes


def _rows(*hashes: tuple[str, int]) -> list[Row]:
    return [Row(f"{i:06}.jpg", "a", "", "", group, phash=f"{value:016x}") for i, (group, value) in enumerate(hashes)]


def test_mirrored_hashes_propose_and_distant_ones_do_not() -> None:
    rows = _rows(("a", 0xF00F), ("b", 0xF00F ^ MIRROR_BITS ^ 3), ("c", 0xFFFF0000FFFF0000), ("d", 0))
    assert propose_by_hashes(rows, 4) == [CandidatePair(0, 1)]


def test_a_thousand_clips_with_one_black_frame_do_not_propose_half_a_million_pairs() -> None:
    pairs = propose_by_hashes(_rows(*((f"clip{number}", 0) for number in range(1000))), 4)
    assert 999 <= len(pairs) <= 1000 * GROUPS_PER_HASH


def test_rows_without_hashes_propose_nothing() -> None:
    rows = [Row(f"{i}.jpg", "a", "", "", f"{i}") for i in range(3)]
    assert propose_by_hashes(rows, 4) == []
