"""`params.yaml` is restored however a study ends, and two studies never borrow it at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.tools.studies.borrowed_params import borrowed_params, exclusive_params
from tests.support.command import ROOT

OWN = "train: {epochs: 20}  # 石墨\r\n"
BORROWED = ["train: {epochs: 1}\n", "train: {epochs: 2}\n"]


@pytest.fixture(autouse=True)
def _signals_of_a_terminal() -> Iterator[None]:
    """Handle all three as on a terminal: `nohup` and a shell's `&` start the tests with signals ignored."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def own(project: Project) -> Project:
    project.params_yaml.write_bytes(OWN.encode())
    return project


def _left_by_a_killed_study(project: Project, text: str = BORROWED[0]) -> None:
    code = (
        "import os, pathlib\n"
        "from pipeline.base.project import Project\n"
        "from pipeline.tools.studies.borrowed_params import *\n"
        "project = Project(pathlib.Path.cwd())\n"
        f"with exclusive_params(project), borrowed_params(project, {BORROWED!r}):\n"
        f"    project.params_yaml.write_text({text!r})\n"
        "    os._exit(9)\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=project.root, env=_environment(), check=False)
    assert finished.returncode == 9
    assert project.params_yaml.read_text() == text


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def _borrow_and_be_signalled(project: Project, number: int) -> None:
    """Borrow the file, and receive a signal meanwhile."""
    with exclusive_params(project), borrowed_params(project, BORROWED):
        project.params_yaml.write_text(BORROWED[0])
        os.kill(os.getpid(), number)
        time.sleep(5)


def test_an_interrupt_restores_the_file(own: Project) -> None:
    with pytest.raises(KeyboardInterrupt):
        _borrow_and_be_signalled(own, signal.SIGINT)
    assert own.params_yaml.read_bytes() == OWN.encode()
    assert [path.name for path in own.cache.iterdir()] == ["pipe_study.lock"]


def test_the_next_study_restores_what_a_killed_study_left(own: Project, capfd: pytest.CaptureFixture[str]) -> None:
    _left_by_a_killed_study(own, BORROWED[1])
    with exclusive_params(own):
        assert own.params_yaml.read_bytes() == OWN.encode()
    assert "params.yaml still had the values of a study that was killed" in capfd.readouterr().err
    own.params_yaml.write_text(BORROWED[1])
    with exclusive_params(own):  # no killed study left that: it was written by hand
        assert own.params_yaml.read_text() == BORROWED[1]


def test_an_edit_after_the_kill_is_not_overwritten(own: Project) -> None:
    _left_by_a_killed_study(own)
    own.params_yaml.write_text("train: {epochs: 3}\n")
    with exclusive_params(own):
        assert own.params_yaml.read_text() == "train: {epochs: 3}\n"


def test_a_second_study_is_refused_while_the_first_runs(own: Project) -> None:
    with (
        exclusive_params(own),
        pytest.raises(DataError, match="another `pipe study` is running here"),
        exclusive_params(own),
    ):
        pytest.fail("both borrow it")
    with exclusive_params(own):
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_termination_signal_ends_the_block_as_an_interrupt_does(own: Project, number: int) -> None:
    handler = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        _borrow_and_be_signalled(own, number)
    assert own.params_yaml.read_bytes() == OWN.encode()
    assert signal.getsignal(number) is handler


def test_an_ignored_signal_stays_ignored(own: Project) -> None:
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with borrowed_params(own, BORROWED):
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, handler)
