"""`pipe upgrade`: bring a project to the installed version of the toolchain, and say what will run again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import ParamsError
from pipeline.base.files import replacing_file
from pipeline.base.progress import warn
from pipeline.base.project import Project
from pipeline.base.storage.packaged_files import packaged
from pipeline.base.words import counted
from pipeline.params import read_params
from pipeline.tools.project.chain import project_chain, stages_after, stages_of
from pipeline.tools.project.toolchain import (
    Toolchain,
    changed_stages,
    installed_digests,
    installed_version,
    read_toolchain,
)


@dataclass(frozen=True)
class UpgradeReport:
    """What an upgrade changed."""

    before: str  # version
    now: str
    changed: Sequence[str]  # stages whose code is another
    to_run: Sequence[str]  # these, and the stages that read what they write

    @property
    def headline(self) -> str:
        """One line: the versions, the changed stages, and how many run again."""
        versions = self.now if self.before == self.now else f"{self.before} to {self.now}"
        if not self.changed:
            return f"clip2edge {versions}: no stage changed, so nothing runs again"
        n_stages = counted(len(self.to_run), "stage")
        return f"clip2edge {versions}: {', '.join(self.changed)} changed: {n_stages} ({', '.join(self.to_run)})"


def upgrade(project: Project) -> UpgradeReport:
    """Write `toolchain.lock`, `dvc.yaml` and `params.schema.json` as the installed version has them.

    A `dvc.yaml` that a person edited stays as it is, and so does `params.yaml`. Standard error says what they lack.

    Raises:
        DataError: the project has no `toolchain.lock`, or no `dvc.yaml` with stages.
    """
    before = _toolchain_before(project)
    chain = project_chain(project)
    present = project.dvc_yaml.read_text(encoding="utf-8") if project.dvc_yaml.exists() else chain
    is_edited = _sha256(present) not in (before.chain_sha256, _sha256(chain))
    stages = stages_of(present if is_edited else chain, project.dvc_yaml)
    now = installed_toolchain(chain)
    if not is_edited:
        _write(project.dvc_yaml, chain)
    elif now.chain_sha256 != before.chain_sha256:
        _name_other_stages(stages_of(chain, project.dvc_yaml), stages, project)
    _write(project.params_schema_json, packaged(project.params_schema_json.name).read_text(encoding="utf-8"))
    _write(project.toolchain_lock, now.to_yaml())
    try:
        read_params(project.params_yaml)
    except ParamsError as error:
        warn(f"{error}; {packaged(project.params_yaml.name)} has the values of this version, with comments")
    changed = changed_stages(before)
    return UpgradeReport(before.version, now.version, changed, stages_after(frozenset(changed), stages))


def installed_toolchain(chain: str) -> Toolchain:
    """What `toolchain.lock` says of the installed version; `chain` is the text of the project's `dvc.yaml`."""
    return Toolchain(installed_version(), installed_digests(), _sha256(chain))


def _toolchain_before(project: Project) -> Toolchain:
    """What the lock says; one that cannot be read, as after a merge with conflicts, is of no known version."""
    try:
        return read_toolchain(project)
    except ParamsError:
        return Toolchain("unknown", {}, "")


def _name_other_stages(wanted: dict[str, object], own: dict[str, object], project: Project) -> None:
    other = [name for name, stage in wanted.items() if own.get(name) != stage]
    if other:
        warn(
            f"{project.dvc_yaml}: was edited and stays; this version has other lines in {', '.join(other)}: compare it"
            " with that of a new project (`pipe init DIR`)"
        )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write(path: Path, text: str) -> None:
    with replacing_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
