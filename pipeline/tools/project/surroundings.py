"""What stands around a project: git and its identity, links, the disk that it lies on. Each problem is one line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.tools.repository.git_repository import git_bytes

_KERNEL = Path("/proc/sys/kernel/osrelease")
_MOUNTS = Path("/proc/self/mounts")
_WINDOWS_FILE_SYSTEMS = ("9p", "drvfs")  # of /mnt/c under WSL 2, and under WSL 1


def refuse_no_identity(folder: Path) -> None:
    """Refuse where git does not know who commits: DVC's experiments are commits.

    Raises:
        DataError: the name or the address is missing.
    """
    if problem := identity_problem(folder):
        raise DataError(problem)


def identity_problem(folder: Path) -> str | None:
    """Say what git does not know of the person who commits; None where it knows all, or is not installed."""
    if shutil.which("git") is None:
        return None
    lacking = [key for key in ("user.name", "user.email") if not _is_known(key, folder)]
    if not lacking:
        return None
    commands = " && ".join(f"git config --global {key} …" for key in lacking)
    return f"git: found no {' and no '.join(lacking)}; commits and experiments need them: {commands}"


def repository_problem(project: Project) -> str | None:
    """Say that a project lies in no git repository, such as one that was unpacked from a zip; None where it does."""
    if not project.dvc_yaml.is_file() or shutil.which("git") is None:
        return None
    if git_bytes(project.root, "rev-parse", "--git-dir") is not None:
        return None
    return (
        f"{project.root}: found no git repository; expected one, since DVC needs it: git init && git add --all"
        " && git commit"
    )


def linked_raw_problem(project: Project) -> str | None:
    """Say that `data/raw`, or `data`, is a link, which neither git nor DVC follows; None where both are folders."""
    linked = next((folder for folder in (project.raw, project.raw.parent) if folder.is_symlink()), None)
    if linked is None:
        return None
    return (
        f"{linked}: a link to {linked.readlink()}; stages read it, but DVC cannot track what is behind it; make it a"
        " folder and `pipe add` the recordings"
    )


def windows_drive_problem(folder: Path) -> str | None:
    """Say that a folder lies on a drive of Windows, seen from Linux (WSL); None anywhere else."""
    if not _is_wsl() or _file_system_of(folder) not in _WINDOWS_FILE_SYSTEMS:
        return None
    return (
        f"{folder}: on a drive of Windows, where WSL is slow and has no links for DVC; expected a folder of Linux,"
        " such as one below ~"
    )


def _is_known(key: str, folder: Path) -> bool:
    variable = key.replace("user.", "GIT_COMMITTER_").upper()
    in_config = git_bytes(folder, "config", "--get", key) or b""
    return bool(in_config.strip() or os.environ.get(variable))


def _is_wsl() -> bool:
    return _KERNEL.is_file() and "microsoft" in _KERNEL.read_text(encoding="utf-8").lower()


def _file_system_of(folder: Path) -> str:
    """The kind of file system that holds a folder, as Linux names it; empty where no mount holds it."""
    holders = [(place, kind) for place, kind in _mounts() if folder.resolve().is_relative_to(place)]
    return max(holders, key=lambda mount: len(mount[0].parts), default=(Path(), ""))[1]


def _mounts() -> Iterator[tuple[Path, str]]:
    for line in _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
        _, place, kind, *_ = line.split(" ")
        yield Path(place.replace("\\040", " ")), kind
