from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import pytest

from pipeline.base.child_process import ChildCrashedError, run_in_child
from pipeline.base.errors import DataError, GateError, LeakageError, PipeError
from pipeline.base.parallel import each
from tests.support.command import ROOT

# What children run.


def add(left: int, right: int) -> int:
    os.write(1, b"chatter of a decoder")
    sys.stdout.write("more chatter")
    return left + right


def where() -> list[str]:
    import pipeline

    return [str(pipeline.__file__), str(Path.cwd())]


def segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def sleep(seconds: float, ready: str = "") -> None:
    if ready:
        Path(ready).write_text(str(os.getpid()), encoding="utf-8")
    time.sleep(seconds)


def refuse() -> None:
    raise DataError("clip.mp4: no good; film another")


def leak() -> None:
    raise LeakageError("a.mp4: on both sides")


class OwnError(DataError):
    """Known to the child only."""


def refuse_in_own_words() -> None:
    raise OwnError("clip.mp4: no good either")


def fail() -> None:
    raise ZeroDivisionError("our own bug")


def run(
    function: Callable[..., Any], *, timeout_seconds: float = 30, folder: Path | None = None, **arguments: Any
) -> Any:
    return run_in_child(
        f"{__name__}:{function.__name__}",
        arguments,
        subject="clip.mp4",
        timeout_seconds=timeout_seconds,
        folder=folder,
    )


def is_running(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(happened: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.01)
    return happened()


# What they are held to.


def test_a_result_comes_back_whatever_is_printed() -> None:
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
        "def place():\n    import pipeline\n    return pipeline.__file__\n"
        "if __name__ == '__main__':\n"
        "    print(run_in_child('pipeline.here:place', {}, subject='', timeout_seconds=30))\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "pipeline.here"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "pipeline" / "__init__.py")


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
def test_an_error_of_ours_comes_back_as_it_was(function: Callable[[], None], kind: type[PipeError], line: str) -> None:
    with pytest.raises(kind) as caught:
        run(function)
    assert type(caught.value) is kind
    assert str(caught.value) == line
    assert caught.value.exit_code == (3 if issubclass(kind, GateError) else 1)


def test_any_other_error_is_our_own_bug_with_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError: our own bug") as caught:
        run(fail)
    assert not isinstance(caught.value, PipeError)


def test_each_gives_results_in_the_order_of_items() -> None:
    def late_first(number: int) -> int:
        time.sleep(0.05 if number == 0 else 0)
        return number * number

    assert list(each(late_first, range(10), "squares")) == [number * number for number in range(10)]


def test_each_of_nothing_is_nothing() -> None:
    assert list(each(str, [], "nothing")) == []


@pytest.mark.skipif(joblib.cpu_count() < 2, reason="with one processor there is no other child")
def test_each_can_be_left_early_without_a_word() -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        results = each(_slowly, range(20), "x")
        assert next(results) == 0
        results.close()
    assert not heard


def _slowly(number: int) -> int:
    time.sleep(0.02)
    return number


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


def test_the_door_stays_open_after_work_that_failed() -> None:
    def work(_: int) -> None:
        raise DataError("no good")

    with pytest.raises(DataError):
        list(each(work, [1], "work"))
    assert run(add, left=1, right=1) == 2


PARENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts in the background ignore it
sys.path[:] = {path!r}
from pathlib import Path
from tests.unit.base.test_child_process import run, sleep
from pipeline.base.parallel import each
try:
    list(each(lambda name: run(sleep, seconds=60, ready=name), {names!r}, "work"))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no signal for the death of a parent")
@pytest.mark.parametrize(("blow", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9), (signal.SIGTERM, -15)])
def test_no_child_outlives_its_parent(tmp_path: Path, blow: signal.Signals, code: int) -> None:
    names = [str(tmp_path / name) for name in "ab"]
    parent = subprocess.Popen([sys.executable, "-c", PARENT.format(path=sys.path, names=names)])
    assert wait_until(lambda: any(Path(name).exists() and Path(name).read_text() for name in names), 30)
    time.sleep(0.2)  # let the other child write its number too, where there is a processor for it
    children = [int(Path(name).read_text(encoding="utf-8")) for name in names if Path(name).exists()]
    assert all(is_running(child) for child in children)
    parent.send_signal(blow)
    assert parent.wait(timeout=10) == code
    assert wait_until(lambda: not any(is_running(child) for child in children))
