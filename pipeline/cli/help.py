"""How the help looks: `pipe --help` lists commands in sections, and every help text ends with an example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click


class SectionedGroup(click.Group):
    """A group whose help lists its commands under headings, in the order in which they were added."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.sections: dict[str, list[str]] = {}  # command names by heading

    def add_section(self, heading: str, commands: Sequence[click.Command]) -> None:
        """Add commands, to be listed under a heading of their own."""
        for command in commands:
            self.add_command(command)
        self.sections[heading] = [str(command.name) for command in commands]

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one line a command, section by section, with the texts of all sections below one another."""
        name_width = max(len(name) for names in self.sections.values() for name in names)
        text_width = formatter.width - name_width - 6  # indentation and the gap between the columns
        for heading, names in self.sections.items():
            lines = [(name.ljust(name_width), self.commands[name].get_short_help_str(text_width)) for name in names]
            with formatter.section(heading):
                formatter.write_dl(lines)


def example(*lines: str) -> str:
    """The end of a help text: command lines that can be typed as they are. For click's `epilog`."""
    # The line \b keeps click from joining the lines to one paragraph.
    return "\n".join(["\b", "Example:" if len(lines) == 1 else "Examples:", *(f"  {line}" for line in lines)])
