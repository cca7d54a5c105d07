"""Which model answers: the checkpoint that the project's graph was exported from, and the study row that it is of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.base.errors import DataError
from pipeline.base.files import read_json, sha256_of
from pipeline.base.project import Project
from pipeline.base.report_digest import MADE_FROM, WROTE, hashes_in
from pipeline.tools.studies.dvc_experiments import list_experiments, param_value

_HEX_DIGITS = 8  # of a checkpoint's hash: enough to tell the runs of a project apart


def name_exported_model(project: Project) -> str:
    """Name the model of the project's graphs: its architecture, experiment and checkpoint, as far as they are known.

    Raises:
        DataError: the graphs are of another checkpoint than `models/checkpoint.pt`, as after a study.
    """
    exported = _exported_checkpoint(project)
    if exported is None:
        return f"a checkpoint that {project.relative(project.export_json)} does not name"
    present = sha256_of(project.checkpoint) if project.checkpoint.is_file() else exported
    if present != exported:
        raise DataError(
            f"{project.onnx}: found graphs of {_name(exported, project)}; no graph is exported of "
            f"{project.relative(project.checkpoint)}, which is {_name(present, project)}; "
            "run `pipe export` and `pipe parity`, or name a bundle with --bundle"
        )
    return _name(exported, project)


def _exported_checkpoint(project: Project) -> str | None:
    """The sha256 of the checkpoint that the present graphs were exported from; None where no report says it."""
    report = _read(project.export_json)
    contract, checkpoint = project.relative(project.contract_json), project.relative(project.checkpoint)
    if hashes_in(report, WROTE).get(contract) != sha256_of(project.contract_json):
        return None
    return hashes_in(report, MADE_FROM).get(checkpoint)


def _name(checkpoint_sha256: str, project: Project) -> str:
    known = [f"checkpoint {checkpoint_sha256[:_HEX_DIGITS]}"]
    if experiment := _experiment_of(checkpoint_sha256, project):
        known.insert(0, f"experiment {experiment}")
    provenance = _read(project.train_reports / "provenance.json")
    if hashes_in(provenance, WROTE).get(project.relative(project.checkpoint)) == checkpoint_sha256:
        arch = param_value(provenance, "params.model.arch")
        return f"{arch} ({', '.join(known)})" if arch else ", ".join(known)
    return ", ".join(known)


def _experiment_of(checkpoint_sha256: str, project: Project) -> str | None:
    """The experiment that judged this checkpoint; None where git has none, or is not there."""
    try:
        for name, experiment in list_experiments(project).items():
            if (experiment.json(project.evaluate_json) or {}).get("checkpoint_sha256") == checkpoint_sha256:
                return name
    except DataError:  # no repository, no commit, or a report that is not readable: the hash must do
        return None
    return None


def _read(path: Path) -> dict[str, Any]:
    value = read_json(path) if path.is_file() else {}
    return value if isinstance(value, dict) else {}
