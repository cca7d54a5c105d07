"""The chain of a project without the toolchain's code, derived from the chain of the checkout.

The checkout's `dvc.yaml` lists for each stage the code that it imports. Here a key of `toolchain.lock` stands for it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from pipeline.base.errors import DataError
from pipeline.base.project import OWN_PACKAGES, Project
from pipeline.base.storage.packaged_files import CHAIN, packaged

_HEAD = """\
# The chain: each stage with its inputs, its section of params.yaml and its outputs. `pipe init` wrote this file.
# The key of toolchain.lock stands for the code that a stage imports. `pipe upgrade` brings both to another version.
"""
_MODULE, _COMMAND = "python -m pipeline ", "pipe "


def code_by_stage() -> dict[str, tuple[str, ...]]:
    """The modules and folders of the toolchain that each stage imports, by stage, in the order of the chain."""
    stages = YAML(typ="safe", pure=True).load(packaged(CHAIN))["stages"]
    return {name: tuple(filter(_is_code, stage["deps"])) for name, stage in stages.items()}


def project_chain(project: Project) -> str:
    """The text of a project's `dvc.yaml`."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    chain = yaml.load(packaged(CHAIN))
    chain.ca.comment = None  # it is about the checkout
    for name, stage in chain["stages"].items():
        _take_code_out(name, stage, project.toolchain_lock.name)
    text = io.StringIO()
    yaml.dump(chain, text)
    return _HEAD + text.getvalue()


def stages_of(text: str, path: Path) -> dict[str, Any]:
    """The stages of a `dvc.yaml` by name; `path` is for the message.

    Raises:
        DataError: it is no YAML, or has no stages.
    """
    try:
        stages = YAML(typ="safe", pure=True).load(text)["stages"]
    except (YAMLError, ValueError, TypeError, KeyError) as error:
        stages = error
    if not isinstance(stages, dict):
        raise DataError(f"{path}: found no stages; `pipe init DIR` makes a project that has them")
    return stages


def stages_after(changed: frozenset[str], stages: Mapping[str, Any]) -> list[str]:
    """The changed stages and those that read what one of them writes, directly or through others.

    Args:
        changed: names of stages.
        stages: the mapping `stages` of a `dvc.yaml`, in the order of the chain.
    """
    written: set[str] = set()
    after = []
    for name, stage in stages.items():
        if name in changed or any(dep in written for dep in stage.get("deps", [])):
            after.append(name)
            written |= {out if isinstance(out, str) else next(iter(out)) for out in stage.get("outs", [])}
    return after


def _take_code_out(name: str, stage: CommentedMap, lock: str) -> None:
    """Replace the code among the inputs of a stage by its key of `toolchain.lock`, and the module by the command."""
    stage["cmd"] = stage["cmd"].replace(_MODULE, _COMMAND, 1)
    for index in reversed([index for index, dep in enumerate(stage["deps"]) if _is_code(dep)]):
        del stage["deps"][index]
    if "params" not in stage:
        stage.insert(list(stage).index("deps") + 1, "params", CommentedSeq())
    stage["params"].append({lock: [name]})


def _is_code(dep: str) -> bool:
    return dep.split("/", maxsplit=1)[0] in OWN_PACKAGES
