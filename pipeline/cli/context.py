"""The desk that every command stands at: the project, a stage's section, and the line that ends a command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

if TYPE_CHECKING:
    from pipeline.base.project import Project
    from pipeline.base.section import SectionType


class Report(Protocol):
    """What every stage gives back."""

    @property
    def headline(self) -> str:
        """One line: what was made, and where it is."""


def here() -> Project:
    """The project that the working folder is."""
    from pipeline.base.project import Project

    return Project(Path.cwd())


def section_of(name: str, section: type[SectionType]) -> SectionType:
    """The stage's own section of the project's params; outside a project, of the defaults."""
    from pipeline.base.section import params_path, read_section

    return read_section(params_path(here()), name, section)


def done(report: Report) -> None:
    """Say what was made, and where it is."""
    click.echo(report.headline)
