"""A named pipe or a device where a file belongs: one line and exit code 1, and no command waits."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

import runtime.__main__ as device
from pipeline.base.project import Project
from pipeline.cli import main

SECONDS = 60  # a command that waits for a writer waits for ever


@pytest.fixture(autouse=True)
def _alarm() -> Iterator[None]:
    def ring(_: int, __: FrameType | None) -> None:
        raise TimeoutError("the command waits")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def in_project(exported: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder is an exported project with a pipe for each kind of file."""
    monkeypatch.chdir(exported.root)
    for name in ("p.jpg", "p.mp4", "p.zip", "p.pem"):
        os.mkfifo(exported.root / name)
    return exported.root


def test_the_alarm_rings_where_something_waits(in_project: Path) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    with pytest.raises(TimeoutError):
        Path("p.jpg").read_bytes()


@pytest.mark.parametrize(
    "command",
    [
        "extract p.mp4",
        "extract --diagnose p.mp4",
        "augment --preview p.jpg --out sheet.png",
        "predict p.jpg",
        "predict p.mp4",
        "predict photo.jpg --bundle p.zip",
        "explain p.jpg",
        "bundle --sign p.pem",
        "bundle --against p.zip",
        "key export p.pem",
        "add p.mp4 --label flake --no-dvc",
    ],
)
def test_a_named_pipe_on_the_command_line_is_refused(
    in_project: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main.run(command.split()) == 1
    printed = capsys.readouterr()
    assert any(word in printed.err + printed.out for word in ("a named pipe", "not a file", "no such file"))


@pytest.mark.parametrize(("kind", "named"), [("pipe", "a named pipe"), ("/dev/zero", "a device")])
@pytest.mark.parametrize("command", ["extract", "train", "recipe demo"])
def test_params_yaml_may_be_no_pipe_and_no_device(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    named: str,
    command: str,
) -> None:
    monkeypatch.chdir(project.root)
    project.params_yaml.unlink()
    (project.root / "recipes").symlink_to(Path(__file__).parents[2] / "recipes")
    if kind == "pipe":
        os.mkfifo(project.params_yaml)
    else:
        project.params_yaml.symlink_to(kind)
    assert main.run(command.split()) == 1
    assert f"params.yaml: {named}; expected a file" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["classify p.jpg", "video p.mp4"])
def test_the_device_waits_for_no_pipe(in_project: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    name, path = command.split()
    (in_project / "bundle").mkdir()
    (in_project / "models" / "contract.json").rename(in_project / "bundle" / "contract.json")
    for graph in (in_project / "models" / "onnx").iterdir():
        graph.rename(in_project / "bundle" / graph.name)
    assert device.main([name, "--bundle", "bundle", path]) == 1
    assert "a named pipe" in capsys.readouterr().err
