"""The command `pipe`, as a person runs it."""

from __future__ import annotations

from tests.support.command import ROOT, run_pipe


def test_an_unknown_command_is_a_usage_error() -> None:
    finished = run_pipe(ROOT, "extrakt")
    assert finished.returncode == 2
    assert "No such command" in finished.stderr


def test_the_version_is_printed() -> None:
    assert run_pipe(ROOT, "--version").stdout.startswith("pipe, version ")
