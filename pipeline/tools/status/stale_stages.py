"""Which stages `dvc repro` would run, and why, by DVC's own status."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.base.project import Project
from pipeline.base.words import counted
from pipeline.tools.adding.tracked_recordings import Difference, difference
from pipeline.tools.repository.dvc_repository import open_dvc

_MOST_REASONS = 3  # that a line names
_CHANGE_WORDS = {
    "modified": "has changed",
    "new": "is new",
    "deleted": "is missing",
    "not in cache": "is not in DVC's cache",
}


@dataclass(frozen=True)
class StageToRun:
    """A stage that `dvc repro` would run, and what DVC found changed."""

    name: str
    has_run: bool  # DVC holds a record of an earlier run
    inputs: tuple[str, ...]  # inputs, params and the command that changed, in words
    outputs: Mapping[str, str]  # outputs that changed: modified, deleted or not in cache
    missing_in_git: tuple[str, ...] = ()  # of these, the deleted ones that are git's and not DVC's

    @property
    def lacks_only_outputs(self) -> bool:
        """Whether nothing changed but that outputs are not here, as after `git clone` or `git checkout`."""
        return self.has_run and not self.inputs and not set(self.outputs.values()) - {"deleted", "not in cache"}

    @property
    def sentence(self) -> str:
        """The stage and the reasons in words."""
        if not self.has_run:
            return f"{self.name}: has never run"
        reasons = [*self.inputs, *(f"{path} {_CHANGE_WORDS[change]}" for path, change in self.outputs.items())]
        rest = [f"{len(reasons) - _MOST_REASONS} more"] if len(reasons) > _MOST_REASONS else []
        return f"{self.name}: {', '.join([*reasons[:_MOST_REASONS], *rest])}"


@dataclass(frozen=True)
class ChainState:
    """What DVC says of the project."""

    to_run: tuple[StageToRun, ...]  # in the order of the chain
    after_them: tuple[str, ...]  # stages that run too, where an input changes
    recordings: str  # the recordings against data/raw.dvc: "", modified, deleted or not in cache
    differs: Difference  # what data/raw.dvc names from what is here
    has_remote: bool

    @property
    def lacks_only_outputs(self) -> bool:
        """Whether every stage that would run only lacks outputs, which DVC may have."""
        return bool(self.to_run) and all(stage.lacks_only_outputs for stage in self.to_run)

    @property
    def missing_in_git(self) -> tuple[str, ...]:
        """Deleted outputs that are git's, which `dvc checkout` does not bring back."""
        return tuple(path for stage in self.to_run for path in stage.missing_in_git)

    @property
    def lacks_cached_outputs(self) -> bool:
        """Whether all that is missing lies in DVC's cache."""
        return self.lacks_only_outputs and all("not in cache" not in stage.outputs.values() for stage in self.to_run)


def chain_state(project: Project) -> ChainState:
    """Ask DVC which stages are stale, and how the recordings differ from `data/raw.dvc`.

    Raises:
        DataError: DVC is not set up here, or cannot read its files.
    """
    from dvc.repo.reproduce import plan_repro
    from networkx import ancestors

    with contextlib.chdir(project.root), open_dvc(project) as repository:  # DVC names paths from where it is called
        changes = repository.status()
        graph = repository.index.graph
        ordered = plan_repro(graph)
        tracked = project.relative(project.raw_dvc)
        changed = [stage for stage in ordered if stage.addressing in changes and stage.cmd]
        later = {after for stage in changed for after in ancestors(graph, stage)} - set(changed)
        outputs = dict(_of_kind(changes.get(tracked, []), "changed outs"))
        differs = difference(repository, project) if outputs else Difference()
        return ChainState(
            tuple(_stage_to_run(stage, changes[stage.addressing]) for stage in changed),
            tuple(stage.addressing for stage in ordered if stage in later and stage.cmd),
            next(iter(outputs.values()), ""),
            differs,
            bool(repository.config["remote"]),
        )


def _stage_to_run(stage: Any, changes: list[Any]) -> StageToRun:
    inputs = [
        *(f"{path} {_CHANGE_WORDS[change]}" for path, change in _changed_inputs(stage, changes)),
        *("its command in dvc.yaml has changed" for change in changes if not isinstance(change, dict)),
    ]
    has_run = any(out.hash_info for out in stage.outs)
    outputs = dict(_of_kind(changes, "changed outs"))
    in_git = tuple(str(out) for out in stage.outs if not out.use_cache and outputs.get(str(out)) == "deleted")
    return StageToRun(stage.addressing, has_run, tuple(inputs), outputs, in_git)


def _changed_inputs(stage: Any, changes: list[Any]) -> Iterator[tuple[str, str]]:
    """Each input that changed; of params.yaml, each param."""
    for path, change in _of_kind(changes, "changed deps"):
        if isinstance(change, dict):
            (params,) = (dep for dep in stage.deps if str(dep) == path)
            before, now = params.hash_info.value or {}, params.read_params()
            for name, of_section in change.items():
                if of_section == "modified":
                    names = _changed_params(name, before.get(name), now.get(name))
                    yield from ((f"{param} in {path}", "modified") for param in names)
                else:
                    yield f"{name} in {path}", of_section
        else:
            yield path, change


def _changed_params(name: str, before: object, now: object) -> Iterator[str]:
    """The dotted names of the params below `name` that differ."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        yield name
        return
    for key in [*before, *(key for key in now if key not in before)]:
        if key not in before or key not in now:
            yield f"{name}.{key}"
        elif before[key] != now[key]:
            yield from _changed_params(f"{name}.{key}", before[key], now[key])


def _of_kind(changes: list[Any], kind: str) -> Iterator[tuple[str, Any]]:
    for change in changes:
        if isinstance(change, dict):
            yield from change.get(kind, {}).items()


def recordings_in_words(state: ChainState) -> str:
    """How the recordings differ from `data/raw.dvc`; empty where they do not."""
    n_lost, n_unnamed = state.differs.n_lost, state.differs.n_unnamed
    if state.recordings == "deleted" or n_lost:
        missing = counted(n_lost, "recording") if n_lost else "the recordings"
        return f"data/raw.dvc names {missing} that {'is' if n_lost == 1 else 'are'} not here"
    if state.recordings == "not in cache":
        return "DVC's cache has not all of them"
    if state.differs.is_of_earlier_commit:
        return "data/raw has the recordings of an earlier commit; `dvc repro` would take back what changed since"
    if n_unnamed:
        return f"data/raw.dvc does not name {counted(n_unnamed, 'file')} yet; `dvc repro` does it"
    return (
        "data/raw.dvc has other content than data/raw; `dvc repro` takes over what is here" if state.recordings else ""
    )
