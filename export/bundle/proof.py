"""Proof that all parts of a bundle are of one run of the chain: every report fits its own values and its inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.base.device_code import device_code
from pipeline.base.errors import DataError, GateError
from pipeline.base.files import read_json
from pipeline.base.project import Project, stage_that_writes
from pipeline.base.report_digest import MADE_FROM, Hashes, check_page, check_report
from runtime.contract import Contract

_PROVENANCE_JSON = "provenance.json"  # of the training


def prove_reports(project: Project) -> Hashes:
    """Refuse reports that were edited, or were made from other files than those of the project.

    The first one in the order of the chain is named, with the command that makes it anew.

    Returns:
        The hash that each file must have which a report vouches for, by its path relative to the project.

    Raises:
        GateError: a report does not fit, or `runtime/` has another file than parity ran.
        DataError: a report, or a file that one names, is missing.
    """
    checked = [check_report(path, project) for path in (project.extract_json, project.split_json)]
    # Evaluate may judge a network on another split than it was trained on. Then its report says so.
    checked.append(check_report(project.train_reports / _PROVENANCE_JSON, project, inputs=False))
    later = (project.evaluate_json, project.export_json, project.parity_json)
    checked += [check_report(path, project) for path in later]
    checked += [check_page(project.report_html, project), _proven_code(project)]
    return {name: sha256 for hashes in checked for name, sha256 in hashes.items()}


def _proven_code(project: Project) -> Hashes:
    """Return the files of `runtime/` that parity ran; refuse one that it did not run."""
    made_from: Hashes = read_json(project.parity_json)[MADE_FROM]
    for path in device_code(project):
        if project.relative(path) not in made_from:
            raise GateError(
                f"{path}: was not there when `pipe parity` ran; remove the file, or run `pipe parity` again"
            )
    return {name: sha256 for name, sha256 in made_from.items() if name.startswith("runtime/")}


def refuse_unproven(sha256_of: Mapping[Path, str], proven: Hashes, project: Project) -> None:
    """Refuse a file that no report vouches for, or that has changed since it was checked.

    Args:
        sha256_of: the hash of each file that is bundled.
        proven: what `prove_reports` returned.
        project: where the files lie.
    """
    for path, sha256 in sha256_of.items():
        if proven.get(project.relative(path)) != sha256:
            stage = stage_that_writes(path) or "parity"
            raise GateError(f"{path}: no report vouches for this file; run `pipe {stage}` again")


def refuse_other_classes(contract: Contract, project: Project) -> None:
    """Refuse when evaluate and the contract name other classes, or another order of them.

    Raises:
        GateError: they differ.
        DataError: the report names no classes.
    """
    values = read_json(project.evaluate_json)
    classes = values.get("classes") if isinstance(values, dict) else None
    if not isinstance(classes, list):
        raise DataError(f"{project.evaluate_json}: no classes; run `pipe evaluate` again")
    if classes != list(contract.classes):
        raise GateError(
            f"{project.evaluate_json}: found the classes {_listed(classes)}; {project.contract_json.name} has"
            f" {_listed(contract.classes)}; run `pipe evaluate` and `pipe export` again"
        )


def _listed(classes: Iterable[object]) -> str:
    return ", ".join(map(str, classes))
