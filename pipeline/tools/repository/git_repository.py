"""What git prints, for a folder inside a repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pipeline.base.errors import DataError


def git_text(folder: Path, *arguments: str) -> str:
    """The standard output of git.

    Raises:
        DataError: git failed, or is not installed.
    """
    content = git_bytes(folder, *arguments)
    if content is None:
        raise DataError(f"{folder}: git {' '.join(arguments[:2])} failed; expected a git repository")
    return content.decode("utf-8")


def git_bytes(folder: Path, *arguments: str) -> bytes | None:
    """The standard output of git; None where git failed.

    Raises:
        DataError: git is not installed.
    """
    try:
        finished = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise DataError("git: not installed; install it, since DVC and experiments need it") from error
    return finished.stdout if finished.returncode == 0 else None
