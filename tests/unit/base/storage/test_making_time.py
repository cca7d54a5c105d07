"""A run states its time as if no cached record had been there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.base.storage import record_store
from pipeline.base.storage.making_time import making_time
from pipeline.base.storage.record_store import Fill, RecordStore


class Clock:
    """A performance counter that moves only when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    ours = Clock()
    monkeypatch.setattr(record_store, "time", ours)
    return ours


def read(folder: Path, kind: str, numbers: Sequence[int], fill: Fill) -> None:
    store = RecordStore(folder / kind, np.dtype("f4"))
    store.read_or_make([f"{number:064x}" for number in numbers], [(2,)] * len(numbers), fill)


def taking(clock: Clock, seconds_each: float) -> Fill:
    def fill(positions: Sequence[int], empty: Sequence[NDArray[Any]]) -> None:
        clock.now += seconds_each * len(positions)
        for array in empty:
            array[:] = 1

    return fill


def test_records_that_lie_ready_count_with_the_time_that_making_them_took(clock: Clock, tmp_path: Path) -> None:
    times = []
    for numbers in ([1, 2], [1, 2], [2, 3]):
        with making_time() as block:
            read(tmp_path, "features", numbers, taking(clock, 45))
        times.append((block.spent, sum(block.made.values())))
    assert times == [(90.0, 90.0), (0.0, 90.0), (45.0, 90.0)]


@pytest.mark.parametrize("are_frames_ready", [False, True])
def test_features_cost_the_same_whether_their_frames_lay_ready(
    are_frames_ready: bool, clock: Clock, tmp_path: Path
) -> None:
    def embed(positions: Sequence[int], empty: Sequence[NDArray[Any]]) -> None:
        read(tmp_path, "frames", [1], taking(clock, 30))
        taking(clock, 60)(positions, empty)

    if are_frames_ready:
        read(tmp_path, "frames", [1], taking(clock, 30))
    before = clock.now
    with making_time() as block:
        read(tmp_path, "features", [1], embed)
    assert sum(block.made.values()) == 90
    assert block.spent == clock.now - before == (60 if are_frames_ready else 90)


def test_records_that_are_read_twice_count_once(clock: Clock, tmp_path: Path) -> None:
    with making_time() as block:
        for _ in range(2):
            read(tmp_path, "features", [1], taking(clock, 90))
    assert sum(block.made.values()) == 90


def test_records_outside_a_block_are_not_counted(clock: Clock, tmp_path: Path) -> None:
    with making_time() as block:
        pass
    read(tmp_path, "features", [1], taking(clock, 1))
    assert (block.spent, block.made) == (0, {})
