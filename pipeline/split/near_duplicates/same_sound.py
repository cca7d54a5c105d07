"""Clips that sound alike: equal bits of two sound fingerprints propose an offset, and all bits at it must agree.

Two clips may sound alike and show different things, as where one song plays in both. So sound proposes and never
confirms.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.base.fingerprints import SoundFingerprint

MOST_WRONG_BITS = 0.3  # share at the same times; those of different sounds differ in half of their bits
LEAST_TIMES = 20  # that both have
_STEP = 50  # milliseconds from time to time
_TRIED = 5  # offsets whose bits are counted


def offset_of_sound(first: SoundFingerprint, second: SoundFingerprint) -> float | None:
    """By how many seconds the second sound begins later in the recording than the first; None where they differ."""
    best, offset = MOST_WRONG_BITS, None
    for milliseconds in _likely_offsets(first, second):
        ticks_a = np.round(first.milliseconds / _STEP)
        ticks_b = np.round((second.milliseconds + milliseconds) / _STEP)
        _, i, j = np.intersect1d(ticks_a, ticks_b, return_indices=True)
        if len(i) < LEAST_TIMES:
            continue
        wrong = float(np.bitwise_count(first.bits[i] ^ second.bits[j]).sum()) / (32 * len(i))
        if wrong < best:
            best, offset = wrong, milliseconds / 1000
    return offset


def hashes_of_sound(sound: SoundFingerprint) -> NDArray[np.uint64]:
    """The different bits of a sound, by which `propose_clips` finds clips that share some."""
    return np.unique(sound.bits).astype(np.uint64)


def _likely_offsets(first: SoundFingerprint, second: SoundFingerprint) -> list[int]:
    """The offsets in milliseconds at which most bits are equal without exception."""
    order = np.argsort(second.bits, kind="stable")
    in_order = second.bits[order]
    begin, end = np.searchsorted(in_order, first.bits), np.searchsorted(in_order, first.bits, side="right")
    counts = np.minimum(end - begin, _TRIED)  # a beep that repeats has one line often
    i = np.repeat(np.arange(len(counts)), counts)
    j = order[np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(begin, counts)]
    apart = np.round((first.milliseconds[i] - second.milliseconds[j]) / _STEP).astype(np.int64)
    offsets, votes = np.unique(apart, return_counts=True)
    return [int(offset) * _STEP for offset in offsets[np.argsort(-votes, kind="stable")[:_TRIED]]]
