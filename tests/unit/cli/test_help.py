"""`pipe --help` lists every command under a heading, and every help text ends with an example."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise

import click
import pytest
from click.testing import CliRunner

from pipeline.cli.help import SectionedGroup, example
from pipeline.cli.main import cli
from tests.support.command import ROOT, run_pipe

STAGES = ("extract", "augment", "split", "train", "evaluate", "export", "parity", "report", "bundle")
COMMANDS = [name for names in cli.sections.values() for name in names]


def help_of(*arguments: str) -> str:
    """The help text of `pipe` or of one of its commands."""
    result = CliRunner().invoke(cli, [*arguments, "--help"], prog_name="pipe")
    assert result.exit_code == 0
    return result.output


def examples_in(text: str) -> list[str]:
    """The command lines below the last heading."""
    heading, *lines = re.split(r"\n\n", text.rstrip())[-1].splitlines()
    assert heading.strip() in ("Example:", "Examples:")
    return [line.strip() for line in lines]


def test_an_empty_path_is_wrong_usage() -> None:
    for command in (["predict", ""], ["add", "", "--label", "a"], ["predict", "a.jpg", "--csv", ""]):
        result = CliRunner().invoke(cli, command)
        assert (result.exit_code, "an empty path" in result.output) == (2, True)


def test_every_command_is_in_one_section() -> None:
    assert sorted(COMMANDS) == sorted(cli.commands)
    assert len(set(COMMANDS)) == len(COMMANDS)


def test_the_first_section_is_the_chain_in_its_order() -> None:
    assert tuple(next(iter(cli.sections.values()))) == STAGES


def test_the_help_lists_every_command_below_its_heading_with_its_first_sentence() -> None:
    text = run_pipe(ROOT, "--help").stdout
    headings = [text.index(f"\n{heading}:\n") for heading in cli.sections]
    assert headings == sorted(headings)
    for (start, end), names in zip(pairwise([*headings, len(text)]), cli.sections.values(), strict=True):
        for name in names:
            (line,) = re.findall(rf"^  {name} +(.*)$", text[start:end], re.MULTILINE)
            assert line == (cli.commands[name].help or "").split("\n\n")[0].strip()
            assert line.endswith(".")  # the whole sentence, not cut off


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_ends_with_an_example_of_it(command: str) -> None:
    lines = examples_in(help_of(command))
    assert lines
    assert all(line.split()[:2] == ["pipe", command] for line in lines)


def test_the_help_of_pipe_ends_with_an_example() -> None:
    lines = examples_in(help_of())
    assert {line.split()[0] for line in lines} == {"pipe", "dvc"}


@pytest.mark.parametrize("command", COMMANDS)
def test_click_accepts_the_options_and_arguments_of_an_example(command: str) -> None:
    for line in examples_in(help_of(command)):
        arguments = shlex.split(line)[2:]
        context = cli.commands[command].make_context(command, arguments)  # raises on an unknown option
        assert set(context.params) == {parameter.name for parameter in cli.commands[command].params}


def test_a_line_of_an_example_is_not_wrapped() -> None:
    line = f"pipe add {'a ' * 60}".rstrip()
    group = SectionedGroup("pipe", epilog=example(line))
    group.add_section("All", [click.Command("add", help="Add.")])
    assert CliRunner().invoke(group, ["--help"]).output.splitlines()[-2:] == ["  Example:", f"    {line}"]


def test_the_texts_of_all_sections_begin_in_one_column() -> None:
    group = SectionedGroup("pipe")
    group.add_section("Short", [click.Command("a", help="First text.")])
    group.add_section("Long", [click.Command("longer", help="Second text.")])
    lines = CliRunner().invoke(group, ["--help"]).output.splitlines()
    assert lines[-5:] == ["Short:", "  a       First text.", "", "Long:", "  longer  Second text."]
