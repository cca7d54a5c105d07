"""The command `pipe`: a command per stage, and the tools."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from pipeline.cli import exit_codes
from pipeline.cli.stages import STAGES
from pipeline.cli.tools import TOOLS


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show a traceback where something goes wrong.")
@click.version_option(package_name="clip2edge", prog_name="pipe")
def cli(debug: bool) -> None:  # read at the door, before click parses
    """Turn phone clips into an image classifier on an edge device, with a number you can believe.

    Put clips or photos into data/raw/<class>/ (or use `pipe add`), then run `dvc repro`; or run the stages one by one:
    extract, augment, split, train, evaluate, export, parity, report, bundle.
    """


for command in (*STAGES, *TOOLS):
    cli.add_command(command)


def main() -> None:
    """Run the command line and leave with its exit code."""
    exit_codes.interrupt_outside_imports()
    exit_codes.leave(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command; gives its exit code."""
    return exit_codes.run(cli, arguments)
