"""`PIPE_LAUNCH` starts `pipe train` by another program."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pipeline.base.errors import DataError
from pipeline.cli.launch import launch_processes


def test_without_a_launcher_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(os, "execv", lambda program, command: started.append((program, command)))
    for text in ("", "  "):
        monkeypatch.setenv("PIPE_LAUNCH", text)
        launch_processes()
    monkeypatch.delenv("PIPE_LAUNCH", raising=False)
    launch_processes()
    assert started == []


def test_the_launcher_gets_the_command_and_its_processes_do_not_launch_again(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(os, "execv", lambda program, command: started.append((program, command)))
    monkeypatch.setenv("PIPE_LAUNCH", "torchrun --standalone --nproc-per-node '2'")
    launch_processes()
    ((program, command),) = started
    assert Path(program).name == "torchrun"
    assert command == ["torchrun", "--standalone", "--nproc-per-node", "2", "-m", "pipeline", "train"]
    assert "PIPE_LAUNCH" not in os.environ
    monkeypatch.setenv("PIPE_LAUNCH", "torchrun")
    monkeypatch.setattr(sys, "argv", ["pipe", "--debug", "train"])
    launch_processes()
    assert started.pop()[1] == ["torchrun", "-m", "pipeline", "--debug", "train"]
    launch_processes()
    assert len(started) == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("torchrnu -n 2", "PIPE_LAUNCH: torchrnu: no such program; expected one such as torchrun --standalone"),
        (
            "torchrun 'x",
            'PIPE_LAUNCH: found "torchrun \'x" (No closing quotation); expected one such as torchrun --standalone',
        ),
    ],
)
def test_a_launcher_that_is_not_there_is_one_line(text: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPE_LAUNCH", text)
    with pytest.raises(DataError) as caught:
        launch_processes()
    assert str(caught.value) == line
