"""Which stages give the same in all rows of a study, so that one run of them serves all."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from pipeline.tools.studies.dvc_experiments import LAST_STAGE, param_value


def shared_stages(dvc_yaml: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The stages before `evaluate` whose params, and those of all stages that they wait for, are equal in all rows.

    Args:
        dvc_yaml: the parsed `dvc.yaml`. A stage that is a template of several is not shared.
        rows: the parsed `params.yaml` of each row.
    """
    stages = {name: stage for name, stage in dvc_yaml.get("stages", {}).items() if "cmd" in stage}
    maker = {out: name for name, stage in stages.items() for out in _paths(stage.get("outs", []))}
    before = {
        name: {maker[dep] for dep in stage.get("deps", []) if dep in maker} - {name} for name, stage in stages.items()
    }
    equal = {name for name, stage in stages.items() if _is_equal(stage, rows)}
    return [name for name in stages if name in _up_to(LAST_STAGE, before) and _up_to(name, before) <= equal]


def _up_to(name: str, before: Mapping[str, Collection[str]]) -> set[str]:
    """A stage and all that it waits for."""
    found, waiting = set[str](), [name]
    while waiting:
        stage = waiting.pop()
        if stage not in found:
            found.add(stage)
            waiting += before.get(stage, ())
    return found


def _is_equal(stage: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a stage's values of `params.yaml` are equal in all rows. Other files of params are those of all rows."""
    names = [name for name in stage.get("params", []) if isinstance(name, str)]
    return all(param_value(row, name) == param_value(rows[0], name) for name in names for row in rows)


def _paths(outs: Iterable[str | Mapping[str, Any]]) -> Iterable[str]:
    return (out if isinstance(out, str) else next(iter(out)) for out in outs)
