"""What every command needs: the project, a section of the params, and a closing line that names the next command."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

if TYPE_CHECKING:
    from pipeline.base.project import Project
    from pipeline.base.section import SectionType

# What to run after each command, so that no stage has to know the chain. A command with several ways has several lines.
NEXT = {
    "add": "pipe extract, or dvc repro for the whole chain",
    "relabel": "dvc repro",
    "remove": "dvc repro",
    "rename": "dvc repro",
    "extract": "pipe augment",
    "extract VIDEOS": "pipe add VIDEOS --label CLASS, to use them in a project",
    "augment": "pipe split",
    "augment --preview": "pipe augment",
    "augment --preview --online": "pipe train",
    "split": "pipe train",
    "train": "pipe evaluate",
    "evaluate": "pipe export",
    "export": "pipe parity",
    "parity": "pipe report",
    "parity --against": "pipe parity",
    "report": "pipe bundle",
    "bundle": "python -m runtime selfcheck, in the unpacked dist/bundle.zip; reports/report.html says how good it is",
    "phone": "pipe phone --serve, or put the folder on any https host; then open it on the phone",
    "phone --single-file": "pipe add --from-phone samples.zip, when samples were saved on the phone",
    "dataset": "dvc repro, which runs the stages that are left",
    "explain": "pipe predict PATHS",
    "recipe": "dvc repro",
    "study": "pipe compare {name}",
    "compare": "dvc exp apply EXPERIMENT, to take over the params and results of a run",
    "init": "pipe add VIDEOS --label CLASS, in {folder}",
    "upgrade": "dvc repro",
    "demo": "dvc repro, which has nothing left to do; then pipe init DIR, for your own clips",
    "doctor": "pipe demo",
    "clean": "pipe status",
    "clean --dry-run": "pipe clean",
    "key new": "pipe key export {key}, for the device; then pipe bundle --sign {key}",
    "key export": "pipe bundle --sign {key}; take the verifier to the device by another way than the bundle",
}


class Report(Protocol):
    """What every stage returns."""

    @property
    def headline(self) -> str:
        """One line: what the stage wrote, and where."""


def current_project() -> Project:
    """The project in the working folder; a correction of its recordings that was killed is finished first."""
    from pipeline.base.project import Project

    project = Project(Path.cwd())
    _name_other_checkout(project.root)
    if os.path.lexists(project.correction):
        from pipeline.tools.corrections.change import finish_change

        finish_change(project)
    return project


@functools.cache  # once a command is enough
def _name_other_checkout(root: Path) -> None:
    """Say it where the working folder is a checkout of the toolchain, and the code that runs is another's."""
    own = Path(__file__).resolve().parents[2]
    if (root / "pipeline" / "cli").is_dir() and (root / "dvc.yaml").is_file() and root.resolve() != own:
        line = f"warning: {own} is the code that runs, not this checkout; `python -m pipeline` runs its own"
        click.echo(visible_line(line), err=True)


def project_for(stage: str) -> Project:
    """The project in the working folder, for a stage: the installed code must be that of its `toolchain.lock`.

    A clone has no such file, since DVC watches its code.
    """
    project = current_project()
    if os.path.lexists(project.toolchain_lock):
        from pipeline.tools.project.toolchain import check_toolchain

        check_toolchain(stage, project)
    return project


def section_of(name: str, section: type[SectionType]) -> SectionType:
    """Read a stage's section of the project's `params.yaml`; outside a project, of the defaults."""
    from pipeline.base.section import params_path, read_section

    return read_section(params_path(current_project()), name, section)


def done(report: Report, command: str, **names: str) -> None:
    """Print the closing line of a command: the report's headline and the next command.

    Args:
        report: what the command returned.
        command: a key of `NEXT`.
        names: values for the braces in the line of `NEXT`, such as the name of a study.
    """
    say([f"{report.headline}; next: {NEXT[command].format(**names)}"])


def say(lines: Iterable[str]) -> None:
    """Print lines on standard output; control characters in the names that they hold are escaped."""
    for line in lines:
        click.echo(visible_line(line))


def visible_line(line: str) -> str:
    """Return a line with its control characters as escapes."""
    try:
        from runtime.system.visible_text import visible
    except ImportError:  # a foreign package hides our `runtime`; `pipe doctor` must still run and name it
        return line
    return visible(line)
