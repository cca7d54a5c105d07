"""What git prints, for a folder inside a repository."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.errors import DataError


def git_text(folder: Path, *arguments: str) -> str:
    """The standard output of git. A name of a file that is not UTF-8 can be opened as it stands there.

    Raises:
        DataError: git failed, and why; or it is not installed.
    """
    finished = _git(folder, arguments)
    if finished.returncode:
        raise DataError(f"{folder}: git {' '.join(arguments[:2])} failed: {_reason(finished)}")
    return os.fsdecode(finished.stdout)


def git_bytes(folder: Path, *arguments: str) -> bytes | None:
    """The standard output of git; None where git failed.

    Raises:
        DataError: git is not installed.
    """
    finished = _git(folder, arguments)
    return None if finished.returncode else finished.stdout


def _git(folder: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise DataError("git: not installed; install it, since DVC and experiments need it") from error


def _reason(failed: subprocess.CompletedProcess[bytes]) -> str:
    """The errors that git printed, without its hints; else its last line."""
    lines = os.fsdecode(failed.stderr).strip().splitlines() or [f"it ended with {failed.returncode}"]
    errors = [line for line in lines if line.startswith(("error: ", "fatal: "))]
    return "; ".join(errors or lines[-1:])
