"""`pipe init`: make a project that holds params, the chain and its own recordings, and none of the toolchain's code."""

from __future__ import annotations

import contextlib
import os
import shutil
import string
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import DataError, ParamsError
from pipeline.base.files import sweep_stale, temporary_folder
from pipeline.base.progress import warn
from pipeline.base.project import Project
from pipeline.base.storage.packaged_files import packaged
from pipeline.params import read_params
from pipeline.tools.project.chain import project_chain
from pipeline.tools.project.surroundings import identity_problem, windows_drive_problem
from pipeline.tools.project.upgrade import installed_toolchain
from pipeline.tools.repository.git_repository import git_bytes
from pipeline.tools.repository.merge_drivers import MERGE_DRIVERS

_BUILDING = "init"  # the project is built inside the folder, which may be a disk or where the shell stands
_TEMPLATES = Path(__file__).parent
_README = "readme_template.md"
_WORKFLOW, _WORKFLOW_AT = "workflow.yml", Path(".github", "workflows", "project.yml")
_DVC_CONFIG = """\
[core]
    analytics = false
    check_update = false
"""
_HIDDEN = {"dvcignore": ".dvcignore", "gitignore": ".gitignore", "gitattributes": ".gitattributes"}


@dataclass(frozen=True)
class InitReport:
    """The project that was made."""

    folder: Path

    @property
    def headline(self) -> str:
        """The closing line."""
        return f"a project in {self.folder}, with git and DVC; its README.md has three commands"


def init(folder: Path) -> InitReport:
    """Make a project in a new or empty folder: all of it or nothing.

    Raises:
        DataError: the folder is not empty, or is a file; git is not installed, or git or DVC refused.
    """
    _refuse_other_content(folder)
    with _new_folders(folder), temporary_folder(folder / _BUILDING) as temporary:
        project = Project(temporary)
        _run(temporary, "git", "init", "--quiet")
        _run(temporary, sys.executable, "-m", "dvc", "init", "--quiet")
        for driver, command in MERGE_DRIVERS.items():
            _run(temporary, "git", "config", f"merge.{driver}.driver", command)
        _write_files(project, folder.absolute().name)
        _commit(temporary)
        _move_content(temporary, folder)
    for problem in filter(None, (identity_problem(folder), windows_drive_problem(folder))):
        warn(problem)
    return InitReport(folder)


def _refuse_other_content(folder: Path) -> None:
    sweep_stale(folder / _BUILDING)
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder}: not empty; expected a new or an empty folder for the project")
    if os.path.lexists(folder) and not folder.is_dir():
        raise DataError(f"{folder}: no folder; expected a new or an empty folder for the project")


@contextlib.contextmanager
def _new_folders(folder: Path) -> Iterator[None]:
    """Make a folder and its parents; when the block raises, remove those that were not there before."""
    with contextlib.ExitStack() as take_back:
        for path in (*reversed(folder.parents), folder):
            if not path.exists():
                path.mkdir()
                take_back.callback(path.rmdir)
        yield
        take_back.pop_all()


def _write_files(project: Project, name: str) -> None:
    chain = project_chain(project)
    _write(project.dvc_yaml, chain)
    _write(project.toolchain_lock, installed_toolchain(chain).to_yaml())
    _write_params(project)
    shutil.copyfile(packaged(project.params_schema_json.name), project.params_schema_json)
    for template, hidden in _HIDDEN.items():
        shutil.copyfile(packaged(template), project.root / hidden)
    _write(project.root / ".dvc" / "config", _DVC_CONFIG)
    shutil.copytree(packaged("plots"), project.root / ".dvc" / "plots", dirs_exist_ok=True)
    readme = string.Template((_TEMPLATES / _README).read_text(encoding="utf-8"))
    _write(project.root / "README.md", readme.substitute(name=name))
    (project.root / _WORKFLOW_AT).parent.mkdir(parents=True)
    shutil.copyfile(_TEMPLATES / _WORKFLOW, project.root / _WORKFLOW_AT)
    project.raw.mkdir(parents=True)
    for table in (project.groups_csv, project.split_keep_csv):
        # In a clone that is a project too, the table may have lines of that project.
        _write(table, packaged(table.name).read_text(encoding="utf-8").splitlines()[0] + "\n")
    project.explanations.mkdir(parents=True)
    (project.explanations / ".gitkeep").touch()  # DVC wants every input of `report` to exist


def _write_params(project: Project) -> None:
    """Write the default params. In a clone, which is a project too, they are those of its last commit."""
    path = packaged(project.params_yaml.name)
    committed = git_bytes(path.parent, "show", f"HEAD:./{path.name}")
    project.params_yaml.write_bytes(committed or path.read_bytes())
    try:
        read_params(project.params_yaml)
    except ParamsError:  # somebody changes the code, and has not committed its new params yet
        shutil.copyfile(path, project.params_yaml)


def _commit(folder: Path) -> None:
    """Make the first commit, which experiments and DVC's curves need, by the toolchain's own name."""
    _run(folder, "git", "add", "--all")
    author = ("-c", "user.name=clip2edge", "-c", "user.email=clip2edge@localhost", "-c", "commit.gpgsign=false")
    _run(folder, "git", *author, "commit", "--quiet", "--no-verify", "--message", "Start the project with pipe init")


def _move_content(temporary: Path, folder: Path) -> None:
    """Move everything up into the folder; where one move fails, move back what was moved."""
    with contextlib.ExitStack() as take_back:
        for path in sorted(temporary.iterdir()):
            moved = path.rename(folder / path.name)
            take_back.callback(moved.rename, path)
        take_back.pop_all()


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _run(folder: Path, *command: str) -> None:
    """Run git or DVC in a folder.

    Raises:
        DataError: it is not installed, or failed.
    """
    # DVC would send that it was started, before its config says that it must not.
    environment = {**os.environ, "DVC_NO_ANALYTICS": "true"}
    try:
        finished = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise DataError(f"{command[0]}: not installed; a project needs it") from error
    if finished.returncode != 0:
        reason = " ".join(finished.stderr.split()) or f"exit code {finished.returncode}"
        raise DataError(f"{folder.parent}: {' '.join(command)} failed ({reason}); nothing was written")
