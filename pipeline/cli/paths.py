"""The paths that a person types."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


class PathType(click.Path):
    """A path that is not empty: Python would take an empty one for the working folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; an empty text, as of a shell's variable that is not set, is wrong usage."""
        if not os.fspath(value):
            self.fail("an empty path; expected the name of a file or a folder", param, ctx)
        return super().convert(value, param, ctx)


PATH = PathType()
