"""Every closing line names the next command, and a section is read from the project or from the defaults."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.base.project import Project
from pipeline.cli import context, recordings, stages, tools
from pipeline.cli.context import NEXT, done, section_of
from pipeline.cli.main import cli
from pipeline.split.params import SplitParams
from tests.support.small_project import set_params

# `pipe predict` prints answers, which other programs read, and no closing line. `pipe status` finds out what is next.
WITHOUT_CLOSING_LINE = {"predict", "status"}


def keys_of_closing_lines() -> list[str]:
    """The second argument of every call of `done` in the commands."""
    trees = [ast.parse(Path(module.__file__).read_text(encoding="utf-8")) for module in (recordings, stages, tools)]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    keys = [call.args[1] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "done"]
    return [str(key.value) for key in keys if isinstance(key, ast.Constant)]


def test_every_command_has_a_closing_line_with_a_next_command() -> None:
    keys = keys_of_closing_lines()
    assert set(keys) == set(NEXT)
    assert {key.split()[0] for key in keys} == set(cli.commands) - WITHOUT_CLOSING_LINE


@pytest.mark.parametrize("line", NEXT.values())
def test_the_next_command_exists(line: str) -> None:
    program, command = re.findall(r"^(pipe|dvc|python -m) (\w+)", line)[0]
    assert command in {"pipe": set(cli.commands), "dvc": {"repro", "exp"}, "python -m": {"runtime"}}[program]


def test_the_next_commands_lead_through_the_whole_chain() -> None:
    chain = ["add"]
    while chain[-1] != "bundle":
        chain.append(NEXT[chain[-1]].removeprefix("pipe ").split(",")[0])
    assert chain[1:] == [command.name for command in stages.STAGES]


def test_the_last_line_of_the_chain_names_the_report_and_the_bundle() -> None:
    assert Project(Path()).report_html.as_posix() in NEXT["bundle"]
    assert Project(Path()).bundle_zip.as_posix() in NEXT["bundle"]


def test_a_closing_line_is_the_headline_and_the_next_command(capsys: pytest.CaptureFixture[str]) -> None:
    done(SimpleNamespace(headline="3 frames in data/frames"), "extract")
    done(SimpleNamespace(headline="2 runs"), "study", name="graphite")
    assert capsys.readouterr().out.splitlines() == [
        "3 frames in data/frames; next: pipe augment",
        "2 runs; next: pipe compare graphite",
    ]


def test_a_section_is_that_of_the_project_or_of_the_defaults(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_params(project, split={"ratio": "7:3"})
    monkeypatch.chdir(project.root)
    assert context.current_project().root == project.root
    assert section_of("split", SplitParams).ratio == "7:3"
    monkeypatch.chdir(tmp_path)
    assert section_of("split", SplitParams).ratio == "8:2"
