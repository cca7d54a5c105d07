"""`toolchain.lock`: which code made the results of a project, as a digest for each stage."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.base.code_digest import digest_of_code
from pipeline.base.errors import DataError, ParamsError
from pipeline.base.project import Project
from pipeline.base.storage.yaml_files import read_yaml
from pipeline.tools.project.chain import code_by_stage

_HEAD = """\
# Which code made the results of this project: a digest for each stage, over all code that the stage imports.
# DVC runs a stage again when its own line changes. `pipe upgrade` writes this file.
"""
_VERSION, _CHAIN = "version", "dvc_yaml"
_SHOWN = 8  # hex digits of a digest in a message


@dataclass(frozen=True)
class Toolchain:
    """A version of the toolchain, as `toolchain.lock` records it."""

    version: str
    digests: Mapping[str, str]  # sha256 of the code by stage
    chain_sha256: str  # of the project's dvc.yaml as the toolchain wrote it

    def to_yaml(self) -> str:
        """The text of `toolchain.lock`. Quotes keep YAML from reading a version or a digest as a number."""
        values = {_VERSION: self.version, **self.digests, _CHAIN: self.chain_sha256}
        return _HEAD + "".join(f'{name}: "{value}"\n' for name, value in values.items())


def installed_digests() -> dict[str, str]:
    """The digest of the installed code by stage, in the order of the chain."""
    return {stage: digest_of_code(code) for stage, code in code_by_stage().items()}


def changed_stages(locked: Toolchain) -> list[str]:
    """The stages whose installed code is another than that of a `toolchain.lock`, in the order of the chain."""
    return [stage for stage, digest in installed_digests().items() if locked.digests.get(stage) != digest]


def installed_version() -> str:
    """The version of the installed toolchain; `unknown` where its code is imported without being installed."""
    try:
        return importlib.metadata.version("clip2edge")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def read_toolchain(project: Project) -> Toolchain:
    """Read `toolchain.lock`.

    Raises:
        DataError: the file is missing.
        ParamsError: it is no YAML, or is not what `Toolchain.to_yaml` writes.
    """
    path = project.toolchain_lock
    try:
        values = read_yaml(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing; `pipe init DIR` makes a project, and a clone needs no such file") from error
    except ParamsError as error:
        raise ParamsError(f"{error}; run `pipe upgrade`") from error
    if not isinstance(values, dict) or not all(isinstance(part, str) for pair in values.items() for part in pair):
        raise ParamsError(f"{path}: found no digests; expected a text for each stage; run `pipe upgrade`")
    digests = {name: value for name, value in values.items() if name not in (_VERSION, _CHAIN)}
    return Toolchain(values.get(_VERSION, "unknown"), digests, values.get(_CHAIN, ""))


def check_toolchain(stage: str, project: Project) -> None:
    """Refuse to run a stage with other code than that of `toolchain.lock`.

    Raises:
        DataError: the installed code of the stage is not that of `toolchain.lock`.
        ParamsError: as `read_toolchain`.
    """
    locked = read_toolchain(project)
    expected, installed = locked.digests.get(stage, "none"), digest_of_code(code_by_stage()[stage])
    if installed != expected:
        raise DataError(
            f"{project.toolchain_lock}: {stage}: found clip2edge {installed_version()} with the code"
            f" {installed[:_SHOWN]}; expected {locked.version} with {expected[:_SHOWN]}; install that version, or run"
            " `pipe upgrade` to go on with this one"
        )
