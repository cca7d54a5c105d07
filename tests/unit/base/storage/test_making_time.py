"""A run states its time as if no cached array had been there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.base.storage import cached_array
from pipeline.base.storage.cached_array import CachedArray
from pipeline.base.storage.making_time import making_time


class Clock:
    """A performance counter that moves only when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    ours = Clock()
    monkeypatch.setattr(cached_array, "time", ours)
    return ours


def array_at(folder: Path, name: str) -> CachedArray:
    return CachedArray(folder / name / "array.npy", (2,), np.dtype("f4"))


def test_an_array_that_lies_ready_counts_with_the_time_that_making_it_took(clock: Clock, tmp_path: Path) -> None:
    def fill(array: NDArray[Any]) -> None:
        clock.now += 90
        array[:] = 1

    times = []
    for _ in range(2):
        with making_time() as block:
            array_at(tmp_path, "features").read_or_make(fill)
        times.append((block.spent, sum(block.made.values())))
    assert times == [(90.0, 90.0), (0.0, 90.0)]


@pytest.mark.parametrize("are_frames_ready", [False, True])
def test_features_cost_the_same_whether_their_frames_lay_ready(
    are_frames_ready: bool, clock: Clock, tmp_path: Path
) -> None:
    def decode(array: NDArray[Any]) -> None:
        clock.now += 30
        array[:] = 1

    def embed(array: NDArray[Any]) -> None:
        array[:] = array_at(tmp_path, "frames").read_or_make(decode)
        clock.now += 60

    if are_frames_ready:
        array_at(tmp_path, "frames").read_or_make(decode)
    before = clock.now
    with making_time() as block:
        array_at(tmp_path, "features").read_or_make(embed)
    assert sum(block.made.values()) == 90
    assert block.spent == clock.now - before == (60 if are_frames_ready else 90)


def test_an_array_that_is_read_twice_counts_once(clock: Clock, tmp_path: Path) -> None:
    def fill(array: NDArray[Any]) -> None:
        clock.now += 90
        array[:] = 1

    with making_time() as block:
        for _ in range(2):
            array_at(tmp_path, "features").read_or_make(fill)
    assert sum(block.made.values()) == 90


def test_arrays_outside_a_block_are_not_counted(clock: Clock, tmp_path: Path) -> None:
    with making_time() as block:
        pass
    array_at(tmp_path, "features").read_or_make(lambda array: array.fill(clock.now))
    assert (block.spent, block.made) == (0, {})
