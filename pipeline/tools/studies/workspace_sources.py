"""What the workspace holds now of the data and code that `evaluate` and the stages before it read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.base.project import Project
from pipeline.tools.repository.dvc_repository import open_dvc
from pipeline.tools.studies.dvc_experiments import LAST_STAGE, parse_yaml, source_digests

if TYPE_CHECKING:
    from dvc.stage import Stage


def workspace_sources(project: Project) -> dict[str, str]:
    """Digests of the workspace's data and code by path, as `source_digests` gives them for an experiment.

    DVC computes them, whether or not a stage has run here. Empty where a file is missing.

    Raises:
        DataError: DVC cannot read the project.
    """
    with open_dvc(project) as repository:
        stages = repository.stage.collect(f"{project.dvc_yaml}:{LAST_STAGE}", with_deps=True)
        made = {out.fs_path for stage in stages if stage.cmd for out in stage.outs}
        recorded = {stage.addressing: _record(stage, made, project) for stage in stages if stage.cmd}
    return source_digests(recorded) if all(record is not None for record in recorded.values()) else {}


def _record(stage: Stage, made: set[str], project: Project) -> dict[str, Any] | None:
    """What `dvc.lock` would say of a stage's sources; None where one is missing."""
    files, params = list[dict[str, str]](), dict[str, dict[str, Any]]()
    for dep in stage.deps:
        if hasattr(dep, "params"):
            params[dep.def_path] = _values(dep.params, project, dep.def_path)
        elif dep.fs_path not in made:
            if not dep.exists:
                return None
            files.append({"path": dep.def_path, "md5": dep.get_hash().value})
    return {"deps": files, "params": params}


def _values(names: Sequence[str], project: Project, path: str) -> dict[str, Any]:
    if path != project.toolchain_lock.name or not project.toolchain_lock.is_file():
        return {}
    values = parse_yaml(project.toolchain_lock.read_text(encoding="utf-8"))
    return {name: values.get(name) for name in names}
