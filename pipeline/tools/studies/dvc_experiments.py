"""DVC's experiments, read out of git: each is a commit under `refs/exps/<its parent>/<name>`.

Only a run that succeeded has such a commit. `dvc exp show` is not used: it also lists queued and failed runs, and
prints beside their params the metrics of the commit that they started from.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.base.errors import DataError
from pipeline.base.project import Project
from pipeline.tools.repository.git_repository import git_bytes, git_text

LAST_STAGE = "evaluate"
_TOOLCHAIN_LOCK = Project(Path()).toolchain_lock.name
_REF = re.compile(r"refs/exps/(?P<start>[0-9a-f]{2})/(?P<rest>[0-9a-f]{38,62})/(?P<name>.+)")


@dataclass(frozen=True)
class Experiment:
    """One successful run, as its commit holds it."""

    project: Project
    name: str
    ref: str
    commit: str
    parent: str  # the commit that it was started from

    def text(self, path: Path) -> str | None:
        """A file of the project as this run left it; None where the run has no such file.

        Raises:
            DataError: the file is not UTF-8.
        """
        content = git_bytes(self.project.root, "show", f"{self.commit}:./{self.project.relative(path)}")
        try:
            return None if content is None else content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{self.name}: {self.project.relative(path)}: not UTF-8") from error

    def json(self, path: Path) -> dict[str, Any] | None:
        """A JSON report of this run; None where it has none.

        Raises:
            DataError: the report is not a JSON object.
        """
        text = self.text(path)
        try:
            values = None if text is None else json.loads(text, parse_constant=_refuse_constant)
        except ValueError as error:
            raise DataError(f"{self.name}: {self.project.relative(path)}: not valid JSON ({error})") from error
        if not isinstance(values, dict | None):
            raise DataError(f"{self.name}: {self.project.relative(path)}: found no JSON object; expected one")
        return values

    @functools.cached_property
    def params(self) -> dict[str, Any]:
        """The parsed `params.yaml` of this run."""
        return parse_yaml(self.text(self.project.params_yaml))

    @functools.cached_property
    def stages(self) -> dict[str, Any]:
        """DVC's records of the stages up to `evaluate`, by name; empty where `evaluate` did not run."""
        return stages_up_to_evaluate(parse_yaml(self.text(self.project.dvc_lock)))

    def fault(self) -> str | None:
        """Say why the reports of this commit do not belong to its params; None where they do.

        An experiment that ran only the first stages still has the reports of the commit that it started from.
        """
        if not self.stages:
            return f"it has not run `{LAST_STAGE}`"
        outs = dict(_digests(self.stages, "outs"))
        for path, digest in _digests(self.stages, "deps"):
            if outs.get(path, digest) != digest:
                return f"{path} is not the one that was judged"
        for values in (stage.get("params", {}).get("params.yaml", {}) for stage in self.stages.values()):
            for name, value in values.items():
                if param_value(self.params, name) != value:
                    return f"its stages did not run with its {name}"
        return self._altered_report(outs)

    def _altered_report(self, outs: Mapping[str, str]) -> str | None:
        path = self.project.evaluate_json
        text = self.text(path)
        name = self.project.relative(path)
        if text is None or outs.get(name) != hashlib.md5(text.encode("utf-8"), usedforsecurity=False).hexdigest():
            return f"{name} is not the one that `{LAST_STAGE}` wrote"
        return None


def list_experiments(project: Project) -> dict[str, Experiment]:
    """The successful experiments by name, sorted.

    Of several with one name, the one started from the present commit is taken, else the newest.

    Raises:
        DataError: there is no git repository, or no commit in it.
    """
    head = check_repository(project)
    by_name: dict[str, Experiment] = {}
    for experiment in _every_experiment(project):
        earlier = by_name.get(experiment.name)
        if earlier is None or earlier.parent != head:
            by_name[experiment.name] = experiment
    return dict(sorted(by_name.items()))


def remove_experiments(name: str, project: Project) -> None:
    """Delete all experiments of this name, whichever commit they were started from."""
    for experiment in list(_every_experiment(project)):
        if experiment.name == name:
            git_text(project.root, "update-ref", "-d", experiment.ref)


def check_repository(project: Project) -> str:
    """Check that experiments can be made here; give the present commit.

    Raises:
        DataError: there is no git repository, or no commit in it.
    """
    if git_bytes(project.root, "rev-parse", "--git-dir") is None:
        raise DataError(f"{project.root}: no git repository; experiments need one: git init, git add, git commit")
    head = git_bytes(project.root, "rev-parse", "--verify", "--quiet", "HEAD")
    if head is None:
        raise DataError(f"{project.root}: no commit yet; an experiment is a child of a commit: git add, git commit")
    return head.decode("ascii").strip()


def stages_up_to_evaluate(lock: Mapping[str, Any]) -> dict[str, Any]:
    """The stages of a parsed `dvc.lock` that `evaluate` depends on, and `evaluate` itself; empty without it."""
    stages = lock.get("stages", {})
    maker = {out["path"]: name for name, stage in stages.items() for out in stage.get("outs", [])}
    needed: dict[str, Any] = {}
    waiting = [LAST_STAGE] if LAST_STAGE in stages else []
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed[name] = stages[name]
            waiting += [maker[dep["path"]] for dep in stages[name].get("deps", []) if dep["path"] in maker]
    return needed


def source_digests(stages: Mapping[str, Any]) -> dict[str, str]:
    """The digests of data and code, by path: of every dependency that is not the output of a stage.

    Where `toolchain.lock` stands for the code, its values are joined to one.
    """
    outputs = {path for path, _ in _digests(stages, "outs")}
    sources = {path: digest for path, digest in _digests(stages, "deps") if path not in outputs}
    locked = [f"{name} {value}" for stage in stages.values() for name, value in _toolchain_keys(stage)]
    return {**sources, _TOOLCHAIN_LOCK: "\n".join(sorted(locked))} if locked else sources


def digest_of(experiment: Experiment, path: Path) -> str | None:
    """The digest of a file that `evaluate` read in this run; None where it read no such file."""
    inputs = dict(_digests({LAST_STAGE: experiment.stages.get(LAST_STAGE, {})}, "deps"))
    return inputs.get(experiment.project.relative(path))


def param_value(params: Mapping[str, Any], dotted: str) -> Any:
    """The value of a dotted name, such as `train.lr`, in parsed params; None where there is none."""
    value: Any = params
    for part in dotted.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def parse_yaml(text: str | None) -> dict[str, Any]:
    """Parse a YAML mapping; empty where there is no text or no mapping."""
    values = YAML(typ="safe", pure=True).load(text or "")
    return values if isinstance(values, dict) else {}


def _digests(stages: Mapping[str, Any], kind: str) -> Iterator[tuple[str, str]]:
    """Path and digest of every entry of the stages; `kind` is "deps" or "outs"."""
    for stage in stages.values():
        for entry in stage.get(kind, []):
            yield entry["path"], entry.get("md5", "")


def _toolchain_keys(stage: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    keys: Mapping[str, str] = stage.get("params", {}).get(_TOOLCHAIN_LOCK, {})
    return keys.items()


def _every_experiment(project: Project) -> Iterator[Experiment]:
    """The experiments of all commits, the oldest first."""
    refs = git_text(
        project.root, "for-each-ref", "--sort=committerdate", "--format=%(objectname) %(refname)", "refs/exps"
    )
    for line in refs.splitlines():
        commit, ref = line.split(" ", 1)
        match = _REF.fullmatch(ref)
        if match:
            yield Experiment(project, match["name"], ref, commit, match["start"] + match["rest"])


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
