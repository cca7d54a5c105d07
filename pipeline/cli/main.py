"""The command `pipe`: all commands, by section."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from pipeline.cli import exit_codes
from pipeline.cli.help import SectionedGroup, example
from pipeline.cli.recordings import RECORDINGS
from pipeline.cli.stages import STAGES
from pipeline.cli.tools import LOOK, PHONE, SIGN, START, STUDIES


@click.group(
    cls=SectionedGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=example(
        "pipe init materials", "pipe add ~/film/IMG_0412.MOV --label flake", "dvc repro", "pipe predict photo.jpg"
    ),
)
@click.option("--debug", is_flag=True, help="Print the traceback of an internal error.")
@click.version_option(package_name="clip2edge", prog_name="pipe")
def cli(debug: bool) -> None:  # exit_codes reads --debug itself, before click parses
    """Turn phone clips into an image classifier on an edge device, with a number you can believe.

    Put clips or photos into data/raw/<class>/, or use `pipe add`. Then run `dvc repro`: it runs the chain, and later
    only those stages whose input changed. Each stage is a command too.
    """


cli.add_section("The chain, in its order", STAGES)
cli.add_section("Add and correct recordings", RECORDINGS)
cli.add_section("Look at data and answers", LOOK)
cli.add_section("Studies", STUDIES)
cli.add_section("Project and machine", START)
cli.add_section("On a phone", PHONE)
cli.add_section("Sign bundles", SIGN)


def main() -> None:
    """Run the command line and leave with its exit code."""
    _restart_in_utf8_mode()
    exit_codes.interrupt_outside_imports()
    exit_codes.leave(run(sys.argv[1:]))


def _restart_in_utf8_mode() -> None:
    try:
        from runtime.system.utf8_mode import restart_in_utf8_mode
    except ImportError:  # a foreign package hides our `runtime`; `pipe doctor` must still run and name it
        return
    restart_in_utf8_mode()


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    return exit_codes.run(cli, arguments)
