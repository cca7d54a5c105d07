"""Every error becomes one line and an exit code."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from pipeline.base.errors import DataError, GateError, LeakageError, ParamsError
from pipeline.base.project import Project
from pipeline.cli import main
from runtime.errors import DeviceError, SelfcheckError
from tests.support.command import ROOT, run_pipe


@pytest.fixture
def raises(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Add a command `planted` that raises the given error."""

    def plant(error: BaseException) -> None:
        def planted() -> None:
            raise error

        monkeypatch.setitem(main.cli.commands, "planted", click.Command("planted", callback=planted))

    return plant


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("a.mp4: broken"), 1),
        (ParamsError("params.yaml: broken"), 1),
        (GateError("parity said no"), 3),
        (LeakageError("a leak"), 3),
        (DeviceError("photo.jpg: broken"), 1),
        (SelfcheckError("another answer than promised"), 3),
        (click.UsageError("wrong"), 2),
        (KeyboardInterrupt(), 130),
        (OSError(errno.ENOSPC, "No space left on device", "data/frames"), 1),
        (PermissionError(errno.EACCES, "Permission denied", "data/frames"), 1),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 1),
        (ModuleNotFoundError("No module named 'pipeline.absent'", name="pipeline.absent"), 70),
        (ZeroDivisionError("ours"), 70),
    ],
)
def test_every_error_has_its_exit_code_and_one_line(
    raises: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    raises(error)
    assert main.run(["planted"]) == code
    printed = capsys.readouterr().err.strip()
    assert "Traceback" not in printed
    assert printed
    if code != 2:
        assert printed.startswith("pipe: ")
        assert "\n" not in printed


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FileNotFoundError(errno.ENOENT, "No file", "data/split.csv"), "data/split.csv: missing; run `pipe split`"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.json"), "a.json: No such file"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "石"), "石: File name too long; rename it, or move"),
        (OSError(errno.EIO, "Input/output error"), "system: Input/output error"),
    ],
)  # fmt: skip
def test_an_error_of_the_system_says_what_to_do_where_that_is_known(
    raises: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str], error: OSError, line: str
) -> None:
    raises(error)
    assert main.run(["planted"]) == 1
    assert capsys.readouterr().err.startswith(f"pipe: {line}")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "data/frames"),
        DataError("a.jpg: cannot be written"),  # this one and the next are raised because of the first
        RuntimeError("unexpected pos 64 vs 0"),
    ],
)
def test_a_full_disk_is_told_with_the_command_and_what_is_free(
    raises: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    if not isinstance(error, OSError):
        error.__context__ = OSError(errno.ENOSPC, "No space left on device")
    raises(error)
    assert main.run(["planted"]) == 1
    line = capsys.readouterr().err.strip()
    assert re.fullmatch(
        r"pipe: planted: .*; a disk is full; free are /.*: [\d,]+ bytes, /.*: [\d,]+ bytes; make room", line
    )


def test_a_name_with_terminal_escapes_is_printed_escaped(
    raises: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    raises(DataError("\x1b[2J.mp4: broken"))
    assert main.run(["planted"]) == 1
    assert capsys.readouterr().err == "pipe: \\u001b[2J.mp4: broken\n"


def test_our_own_bug_says_where_the_traceback_is_and_debug_shows_it(
    raises: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    raises(ZeroDivisionError("ours"))
    main.run(["planted"])
    log = Path(capsys.readouterr().err.strip().rsplit(" ", 1)[-1])
    assert "ZeroDivisionError" in log.read_text()
    log.unlink()
    main.run(["--debug", "planted"])
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    Path(printed.strip().rsplit(" ", 1)[-1]).unlink()


def test_a_closed_standard_output_is_one_line_and_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    finished = subprocess.run(
        [sys.executable, "-m", "pipeline", "--help"],
        cwd=ROOT,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert finished.returncode == 1
    assert "Traceback" not in finished.stderr
    assert "Exception ignored" not in finished.stderr


def test_without_a_standard_output_a_command_does_its_work() -> None:
    command = ["bash", "-c", f"{sys.executable} -m pipeline recipe >&-"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")


def test_a_letter_that_the_terminal_cannot_show_is_printed_as_an_escape(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "鳞片.yaml").write_text("params: {}\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "latin-1"}
    command = [sys.executable, "-m", "pipeline", "recipe"]
    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stdout.splitlines()[-1]) == (0, "\\u9cde\\u7247")


def test_where_a_foreign_package_hides_ours_commands_run_and_errors_point_to_the_doctor(
    project: Project,
) -> None:
    (project.root / "runtime").mkdir()
    (project.root / "runtime" / "__init__.py").touch()
    finished = run_pipe(project.root, "--help")
    assert finished.returncode == 0
    assert "doctor" in finished.stdout
    finished = run_pipe(project.root, "predict", "photo.jpg")
    assert finished.returncode == 70
    assert "`pipe doctor` says whether a foreign package hides runtime" in finished.stderr
    Path(finished.stderr.strip().rsplit(" ", 1)[-1]).unlink()
