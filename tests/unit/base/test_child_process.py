"""Child processes: results and errors come back, crashes become one line, and no child outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.base.child_process import MOST_CALLS, MOST_KEPT_BYTES, ChildCrashedError, run_in_child
from pipeline.base.errors import DataError, GateError, LeakageError, PipeError
from pipeline.base.parallel import each
from tests.support.children import (
    add,
    is_running,
    keep_and_allocate,
    note_and,
    process_id,
    run,
    sleep,
    wait_until,
)
from tests.support.command import ROOT


def where() -> list[str]:
    import pipeline

    return [str(pipeline.__file__), str(Path.cwd())]


def segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def refuse() -> None:
    raise DataError("clip.mp4: no good; film another")


def leak() -> None:
    raise LeakageError("a.mp4: on both sides")


class OwnError(DataError):
    """Known to the child only."""


def refuse_in_own_words() -> None:
    raise OwnError("clip.mp4: no good either")


def allocate(n_bytes: int) -> None:
    bytearray(n_bytes)


def fail() -> None:
    raise ZeroDivisionError("our own bug")


def test_output_of_the_function_does_not_mix_with_its_result() -> None:
    assert run(add, left=20, right=22) == 42


def test_the_child_imports_the_package_of_its_parent_wherever_it_runs(tmp_path: Path) -> None:
    import pipeline

    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("raise ImportError('the wrong package')\n", encoding="utf-8")
    assert run(where, folder=tmp_path) == [pipeline.__file__, str(tmp_path)]


def test_a_copy_of_the_project_runs_its_own_code(tmp_path: Path) -> None:
    package = ROOT / "pipeline"
    (tmp_path / "pipeline" / "base").mkdir(parents=True)
    for name in ("__init__.py", "base/__init__.py", "base/child_process.py", "base/errors.py", "base/progress.py"):
        (tmp_path / "pipeline" / name).write_bytes((package / name).read_bytes())
    (tmp_path / "pipeline" / "here.py").write_text(
        "from pipeline.base.child_process import run_in_child\n"
        "def where():\n    import pipeline\n    return pipeline.__file__\n"
        "if __name__ == '__main__':\n"
        "    print(run_in_child('pipeline.here:where', {}, subject='', timeout_seconds=30))\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "pipeline.here"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == str(tmp_path / "pipeline" / "__init__.py")


def test_a_crash_is_one_line_about_the_clip() -> None:
    with pytest.raises(ChildCrashedError) as caught:
        run(segfault)
    assert str(caught.value) == "clip.mp4: decoder crashed (signal 11); delete or re-copy the file"
    assert isinstance(caught.value, DataError)


def test_a_child_that_hangs_is_stopped() -> None:
    started = time.monotonic()
    with pytest.raises(ChildCrashedError, match=r"^clip.mp4: decoding took more than 1 s and was stopped"):
        run(sleep, seconds=60, timeout_seconds=1)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("function", "kind", "line"),
    [
        (refuse, DataError, "clip.mp4: no good; film another"),
        (leak, LeakageError, "a.mp4: on both sides"),
        (refuse_in_own_words, DataError, "clip.mp4: no good either"),
    ],
)
def test_an_error_of_ours_arrives_unchanged(function: Callable[[], None], kind: type[PipeError], line: str) -> None:
    with pytest.raises(kind) as caught:
        run(function)
    assert type(caught.value) is kind
    assert str(caught.value) == line
    assert caught.value.exit_code == (3 if issubclass(kind, GateError) else 1)


def test_any_other_error_is_our_own_bug_with_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError: our own bug") as caught:
        run(fail)
    assert not isinstance(caught.value, PipeError)


PARENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs that ignore it
sys.path[:] = {path!r}
from pathlib import Path
from tests.support.children import run, sleep
from pipeline.base.parallel import each
try:
    list(each(lambda name: run(sleep, seconds=60, ready=name), {names!r}, "work"))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no signal for the death of a parent")
@pytest.mark.parametrize(("death", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9), (signal.SIGTERM, -15)])
def test_no_child_outlives_its_parent(tmp_path: Path, death: signal.Signals, code: int) -> None:
    names = [str(tmp_path / name) for name in "ab"]
    parent = subprocess.Popen([sys.executable, "-c", PARENT.format(path=sys.path, names=names)])
    assert wait_until(lambda: any(Path(name).exists() and Path(name).read_text() for name in names), 30)
    time.sleep(0.2)  # let the other child write its process id too, where there is a processor for it
    children = [int(Path(name).read_text(encoding="utf-8")) for name in names if Path(name).exists()]
    assert all(is_running(child) for child in children)
    parent.send_signal(death)
    assert parent.wait(timeout=10) == code
    assert wait_until(lambda: not any(is_running(child) for child in children))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not count mapped memory")
def test_a_child_that_needs_more_memory_than_allowed_is_one_line_about_the_clip() -> None:
    with pytest.raises(ChildCrashedError, match=r"^clip.mp4: decoding needed more memory than 0\.1 GB and was stopped"):
        run_in_child(
            f"{allocate.__module__}:allocate",
            {"n_bytes": 10**9},
            subject="clip.mp4",
            timeout_seconds=30,
            max_bytes=10**8,
        )


# A child that serves call after call.


@pytest.fixture
def one_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """All items of `each` run in one thread, which has one child at a time."""
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")


def outcomes_of(acts: list[str], log: Path) -> list[int | str]:
    """The process id or the error of one call per act."""

    def work(act: str) -> int | str:
        try:
            return int(run(note_and, act=act, log=str(log), timeout_seconds=1 if act == "hang" else 60))
        except ChildCrashedError as error:
            return str(error)

    return list(each(work, acts, "work"))


def test_calls_of_one_thread_share_a_child_and_calls_elsewhere_do_not(one_processor: None) -> None:
    assert len(set(each(lambda _: run(process_id), range(4), "work"))) == 1
    first, second = run(process_id), run(process_id)
    assert first != second
    assert not is_running(first)


def test_a_child_ends_after_its_last_call(one_processor: None) -> None:
    served = list(each(lambda _: run(process_id), range(MOST_CALLS + 1), "work"))
    assert len(set(served[:MOST_CALLS])) == 1
    assert served[-1] not in served[:MOST_CALLS]


def test_a_crash_in_the_middle_of_a_childs_life_costs_its_own_call_only(one_processor: None, tmp_path: Path) -> None:
    before, crashed, after, last = outcomes_of(["", "crash", "", ""], tmp_path / "log")
    assert crashed == "clip.mp4: decoder crashed (signal 11); delete or re-copy the file"
    tried = [int(line) for line in (tmp_path / "log").read_text(encoding="utf-8").split()]
    assert tried[:2] == [before, before]  # it crashed the child that had served the first call
    assert len({before, tried[2], after}) == 3  # and then a fresh one
    assert after == last


def test_a_call_that_a_harmed_child_crashes_is_repeated_in_a_fresh_one(one_processor: None, tmp_path: Path) -> None:
    harmed, fresh = outcomes_of(["", "crash if used before"], tmp_path / "log")
    assert isinstance(fresh, int)
    assert fresh != harmed


def test_an_endless_loop_in_the_middle_costs_its_own_call_and_its_time_once(
    one_processor: None, tmp_path: Path
) -> None:
    before, hung, after = outcomes_of(["", "hang", ""], tmp_path / "log")
    advice = "raise extract.decode_timeout_seconds, or re-copy the file if it is damaged"
    assert hung == f"clip.mp4: decoding took more than 1 s and was stopped; {advice}"
    assert (tmp_path / "log").read_text(encoding="utf-8").split() == [str(before), str(before), str(after)]
    assert before != after


def test_a_child_that_met_damage_serves_no_other_call(one_processor: None, tmp_path: Path) -> None:
    before, damaged, after = outcomes_of(["", "leave", ""], tmp_path / "log")
    assert before == damaged != after


def test_chatter_that_fills_a_pipe_and_a_reader_of_standard_input_stop_nothing(
    one_processor: None, tmp_path: Path
) -> None:
    assert len(set(outcomes_of(["", "flood", "read", "flood", ""], tmp_path / "log"))) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not count mapped memory")
def test_memory_is_limited_per_call_and_what_a_child_keeps_is_bounded(one_processor: None) -> None:
    limit = 2 * MOST_KEPT_BYTES
    most = limit - 200_000_000  # the rest is for the interpreter

    def work(kept_bytes: int, allocated_bytes: int) -> int | str:
        try:
            return int(run(keep_and_allocate, kept_bytes=kept_bytes, allocated_bytes=allocated_bytes, max_bytes=limit))
        except ChildCrashedError as error:
            return str(error)

    calls = [(MOST_KEPT_BYTES * 4 // 5, 0), (0, most), (0, limit), (0, 0), (MOST_KEPT_BYTES * 6 // 5, 0), (0, 0)]
    keeper, large, hog, other, leaky, last = each(lambda call: work(*call), calls, "work")
    assert keeper == large  # what an earlier call keeps does not count
    assert hog == "clip.mp4: decoding needed more memory than 1 GB and was stopped; make it smaller, or raise " + (
        "extract.decode_max_gigabytes"
    )
    assert isinstance(other, int)
    assert other not in (keeper, hog)
    assert leaky == other != last  # it kept too much for another call


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /proc")
def test_children_that_come_and_go_leave_no_open_file_and_no_process(one_processor: None, tmp_path: Path) -> None:
    outcomes_of([""], tmp_path / "log")  # joblib and others keep files of their own
    before = len(list(Path("/proc/self/fd").iterdir()))
    outcomes = outcomes_of(["", "crash", "leave", "flood", ""], tmp_path / "log")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not any(is_running(outcome) for outcome in outcomes if isinstance(outcome, int))
