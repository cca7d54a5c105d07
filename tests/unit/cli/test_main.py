from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from pipeline.base.errors import DataError, GateError, LeakageError, ParamsError
from pipeline.cli import main
from tests.support.command import ROOT, run_pipe

STAGES = ("extract", "augment", "split", "train", "evaluate", "export", "parity", "report", "bundle")


@pytest.fixture
def raises(monkeypatch: pytest.MonkeyPatch) -> object:
    """Plant a command that raises what a test asks for."""

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
    raises: object, capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    raises(error)  # type: ignore[operator]
    assert main.run(["planted"]) == code
    said = capsys.readouterr().err.strip()
    assert "Traceback" not in said
    assert said
    if code != 2:
        assert said.startswith("pipe: ")
        assert "\n" not in said


def test_our_own_bug_says_where_the_traceback_is_and_debug_shows_it(
    raises: object, capsys: pytest.CaptureFixture[str]
) -> None:
    raises(ZeroDivisionError("ours"))  # type: ignore[operator]
    main.run(["planted"])
    log = Path(capsys.readouterr().err.strip().rsplit(" ", 1)[-1])
    assert "ZeroDivisionError" in log.read_text()
    log.unlink()
    main.run(["--debug", "planted"])
    said = capsys.readouterr().err
    assert "Traceback" in said
    Path(said.strip().rsplit(" ", 1)[-1]).unlink()


def test_help_names_every_stage() -> None:
    shown = run_pipe(ROOT, "--help").stdout
    assert all(f"  {stage} " in shown for stage in STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_without_its_input_ends_in_one_line_and_writes_nothing(project: object, stage: str) -> None:
    root: Path = project.root  # type: ignore[attr-defined]
    finished = run_pipe(root, stage)
    assert finished.returncode == 1
    assert finished.stderr.startswith("pipe: ")
    assert finished.stderr.strip().count("\n") == 0
    assert [path.name for path in root.rglob("*") if path.is_file()] == ["params.yaml"]


def test_an_unknown_parameter_is_refused_with_the_nearest_valid_name(project: object) -> None:
    path: Path = project.params_yaml  # type: ignore[attr-defined]
    path.write_text(path.read_text().replace("  lr: ", "  learning_rate: 1\n  lr: "))
    finished = run_pipe(path.parent, "train")
    assert finished.returncode == 1
    assert "train.learning_rate: unknown key; the nearest valid name is" in finished.stderr


def test_a_stage_reads_its_own_section_only(project: object) -> None:
    path: Path = project.params_yaml  # type: ignore[attr-defined]
    path.write_text(path.read_text().replace("  lr: ", "  learning_rate: 1\n  lr: "))
    assert "learning_rate" not in run_pipe(path.parent, "split").stderr


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
