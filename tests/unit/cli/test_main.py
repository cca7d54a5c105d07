"""The command `pipe`, as a person runs it."""

from __future__ import annotations

from tests.support.command import ROOT, run_pipe


def test_an_unknown_command_is_a_usage_error() -> None:
    finished = run_pipe(ROOT, "extrakt")
    assert finished.returncode == 2
    assert "No such command" in finished.stderr


def test_no_rows_at_a_time_is_a_usage_error() -> None:
    finished = run_pipe(ROOT, "study", "graphite", "--jobs", "0")
    assert finished.returncode == 2
    assert finished.stderr.endswith("Error: Invalid value for '--jobs': 0 is not in the range x>=1.\n")


def test_the_version_is_printed() -> None:
    assert run_pipe(ROOT, "--version").stdout.startswith("pipe, version ")
