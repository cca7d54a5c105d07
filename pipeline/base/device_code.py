"""The files of `runtime/`: parity runs them, and the bundle holds exactly the code that parity ran."""

from __future__ import annotations

from pathlib import Path

from pipeline.base.project import Project
from runtime.system.litter import is_litter

_CACHE = "__pycache__"  # Python writes it anew


def device_code(project: Project) -> list[Path]:
    """List every file below `runtime/`, sorted by path; Python's caches and the litter of systems do not count."""
    files = (path for path in project.runtime.rglob("*") if path.is_file())
    return sorted(path for path in files if not _is_left_out(path.relative_to(project.runtime)))


def _is_left_out(path: Path) -> bool:
    return any(part == _CACHE or is_litter(part) for part in path.parts)
