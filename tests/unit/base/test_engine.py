"""Work goes to the engine that the environment names, and gives the same bytes there."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from joblib._parallel_backends import LokyBackend

from pipeline.base.engine import each_anywhere
from pipeline.base.errors import DataError
from tests.support.children import add, is_running, process_id, run, wait_until


@pytest.fixture
def loky(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """joblib's own processes, the engine that is always installed. They end with the folder that they start in."""
    monkeypatch.setenv("PIPE_ENGINE", "loky")
    monkeypatch.chdir(tmp_path)
    yield
    end_workers()


def end_workers() -> None:
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=True)


def _square_and_process(value: int) -> tuple[int, int]:
    return value * value, os.getpid()


def _sum_in_child(left: int, right: int) -> int:
    result: int = run(add, left=left, right=right)
    return result


def _refuse(value: int) -> None:
    raise DataError(f"{value}.mp4: no good")


def _write(text: str, name: str) -> str:
    Path(name).write_text(text, encoding="utf-8")
    return str(Path.cwd())


def test_without_an_engine_the_work_stays_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIPE_ENGINE", raising=False)
    assert list(each_anywhere(_square_and_process, [1, 2], "squares")) == [(1, os.getpid()), (4, os.getpid())]


@pytest.mark.usefixtures("loky")
def test_an_engine_gets_the_work_and_the_results_keep_their_order() -> None:
    results = list(each_anywhere(_square_and_process, range(10), "squares"))
    assert [square for square, _ in results] == [value * value for value in range(10)]
    assert os.getpid() not in {process for _, process in results}
    assert list(each_anywhere(_square_and_process, [], "nothing")) == []


@pytest.mark.usefixtures("loky")
def test_the_work_has_the_folder_of_the_command(tmp_path: Path) -> None:
    folders = set(each_anywhere(partial(_write, "here"), ["a", "b"], "write"))
    assert folders == {str(tmp_path)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.usefixtures("loky")
def test_the_work_starts_children_on_its_machine() -> None:
    assert list(each_anywhere(partial(_sum_in_child, 1), range(4), "sums")) == [1, 2, 3, 4]


def _child_of_worker(_: int) -> int:
    child: int = run(process_id)
    return child


@pytest.mark.usefixtures("loky")
def test_a_child_serves_several_items_and_ends_with_its_worker() -> None:
    children = list(each_anywhere(_child_of_worker, range(8), "children"))
    assert len(set(children)) < len(children)
    end_workers()
    assert wait_until(lambda: not any(map(is_running, children)))


@pytest.mark.usefixtures("loky")
def test_the_line_of_an_error_comes_back() -> None:
    with pytest.raises(DataError, match=r"^1\.mp4: no good$"):
        list(each_anywhere(_refuse, [1], "work"))


def _end_the_worker(_: int) -> None:
    os._exit(1)


@pytest.mark.usefixtures("loky")
@pytest.mark.parametrize("gives_results_one_by_one", [True, False])  # Ray's backend gives all at the end
def test_an_engine_that_gives_up_is_one_line(gives_results_one_by_one: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LokyBackend, "supports_return_generator", gives_results_one_by_one)
    assert [square for square, _ in each_anywhere(_square_and_process, [2], "squares")] == [4]
    with pytest.raises(DataError, match=r"^PIPE_ENGINE: loky lost the work \(.*\); run it again, see docs/scale\.md$"):
        list(each_anywhere(_end_the_worker, [1], "work"))


@pytest.mark.usefixtures("loky")
def test_work_can_be_left_early_without_a_warning() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = each_anywhere(_square_and_process, range(20), "squares")
        assert next(results)[0] == 0
        results.close()
    assert not caught


@pytest.mark.parametrize("engine", ["dask", "ray", "nonsense"])
def test_an_engine_that_is_not_there_is_one_line(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPE_ENGINE", engine)
    monkeypatch.setenv("PYTHONPATH", "")
    with pytest.raises(DataError, match=rf"^PIPE_ENGINE: {engine} does not start \(.*\); see docs/scale\.md$"):
        list(each_anywhere(_square_and_process, [1], "squares"))


@pytest.mark.usefixtures("loky")
def test_a_machine_without_the_folder_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    results = each_anywhere(_square_and_process, [1], "squares")
    monkeypatch.setattr(Path, "cwd", lambda: tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"elsewhere: not on every machine of PIPE_ENGINE \(No such file"):
        list(results)
