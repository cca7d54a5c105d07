"""Parallel work: results in order, and no child is left when the work ends."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import joblib
import pytest

from pipeline.base.errors import DataError
from pipeline.base.parallel import each, threads_for_each
from tests.support.children import add, is_running, run, sleep, wait_until


def test_each_gives_results_in_the_order_of_items() -> None:
    def late_first(value: int) -> int:
        time.sleep(0.05 if value == 0 else 0)
        return value * value

    assert list(each(late_first, range(10), "squares")) == [value * value for value in range(10)]


def test_each_of_nothing_is_nothing() -> None:
    assert list(each(str, [], "nothing")) == []


def test_each_can_be_left_early_without_a_warning() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = each(_slowly, range(20), "x")
        assert next(results) == 0
        results.close()
    assert not caught


def _slowly(value: int) -> int:
    time.sleep(0.02)
    return value


@pytest.mark.skipif(joblib.cpu_count() < 2, reason="with one processor there is no other child")
def test_the_first_error_in_each_stops_the_other_children(tmp_path: Path) -> None:
    def work(name: str) -> None:
        if name == "bad":
            assert wait_until((tmp_path / "slow").exists)
            raise DataError("bad.mp4: no good")
        run(sleep, seconds=60, ready=str(tmp_path / name))

    started = time.monotonic()
    with pytest.raises(DataError, match=r"bad\.mp4"):
        list(each(work, ["slow", "bad", "later", "last"], "work"))
    assert time.monotonic() - started < 20
    child = int((tmp_path / "slow").read_text(encoding="utf-8"))
    assert wait_until(lambda: not is_running(child))
    assert not (tmp_path / "last").exists()


def test_children_can_be_started_after_work_that_failed() -> None:
    def work(_: int) -> None:
        raise DataError("no good")

    with pytest.raises(DataError):
        list(each(work, [1], "work"))
    assert run(add, left=1, right=1) == 2


@pytest.mark.parametrize(
    ("processors", "n_items", "n_threads"), [(8, 2, 4), (8, 3, 2), (8, 20, 1), (8, 0, 8), (1, 5, 1)]
)
def test_items_share_the_processors(
    monkeypatch: pytest.MonkeyPatch, processors: int, n_items: int, n_threads: int
) -> None:
    monkeypatch.setattr(joblib, "cpu_count", lambda: processors)
    assert threads_for_each(n_items) == n_threads
