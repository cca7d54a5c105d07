"""The files of `runtime/`: parity runs them, and the bundle holds exactly the code that parity ran."""

from __future__ import annotations

from pathlib import Path

from pipeline.base.code_digest import files_of_code
from pipeline.base.project import Project


def device_code(project: Project) -> list[Path]:
    """List every file below `runtime/`, sorted by path; Python's caches and the litter of systems do not count."""
    return files_of_code(project.runtime)
