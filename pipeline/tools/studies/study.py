"""A study: every row of a recipe is run as a DVC experiment up to `evaluate`.

The rows run one after the other in the workspace, so that they share the frames, the split and the caches. Each row
borrows `params.yaml`, which is restored afterwards. With several at a time they run in copies of the workspace.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from pipeline.base.errors import DataError, PipeError
from pipeline.base.project import Project
from pipeline.base.words import counted
from pipeline.params import read_params
from pipeline.tools.project.surroundings import refuse_no_identity
from pipeline.tools.repository.own_programs import environment_with_own_programs
from pipeline.tools.studies.borrowed_params import borrowed_params, exclusive_params
from pipeline.tools.studies.dvc_experiments import (
    Experiment,
    check_repository,
    list_experiments,
    param_value,
    parse_yaml,
    remove_experiments,
    source_digests,
)
from pipeline.tools.studies.experiment_run import (
    TAIL_BYTES,
    PlannedRun,
    dvc_experiment,
    reason_of_failure,
    signal_group,
)
from pipeline.tools.studies.recipe import compose, find_recipe, read_study
from pipeline.tools.studies.recipe_schema import Study, refuse_unknown
from pipeline.tools.studies.rows_in_copies import run_in_copies
from pipeline.tools.studies.small import name_of_runs, small_study
from pipeline.tools.studies.workspace_sources import workspace_sources

_LONGEST_SLUG = 60  # letters: git keeps a name in a file name
_KEPT = "kept; it ran with the same params, data and code"
_PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}


@dataclass(frozen=True)
class StudyReport:
    """How many experiments of a study were run."""

    name: str
    n_run: int
    n_kept: int  # experiments that had run before
    last_run: str | None  # the experiment that left its checkpoint in the workspace; None where none did

    @property
    def headline(self) -> str:
        """The closing line."""
        kept = f", {self.n_kept} kept" if self.n_kept else ""
        left = (
            f"; models/checkpoint.pt is that of {self.last_run}, and no graph of it is exported: "
            f"dvc exp apply {self.last_run} && dvc repro"
        )
        return f"study {self.name}: {counted(self.n_run, 'experiment')} run{kept}{left if self.last_run else ''}"


def study(
    name: str, rows: Sequence[str], seeds: int, project: Project, *, small: bool = False, jobs: int = 1
) -> StudyReport:
    """Run the rows of a recipe. A run that fails does not stop the others.

    A run whose experiment exists with the same params, data and code is kept.

    Args:
        name: the recipe.
        rows: the rows to run; empty for all rows.
        seeds: runs of each row. From two on, the runs have `train.seed` 0, 1, 2 …; a single run keeps its own seed.
        project: where the experiments run.
        small: run each row's own network on few small pictures, under other names than those of the whole study.
        jobs: runs at a time. From two on, they run in copies, and the workspace stays as it is.

    Raises:
        ParamsError: there is no such recipe or row, or the params of a row are invalid; then nothing has run.
        DataError: no git repository, no commit, no recordings, or another study is running here.
        PipeError: some runs failed; the message has the reason of each.
    """
    recipe = read_study(name, project)
    for row in rows:
        if row not in recipe.rows:
            refuse_unknown(row, list(recipe.rows), f"{find_recipe(name, project)}: rows")
    check_repository(project)
    refuse_no_identity(project.root)
    if not project.raw.is_dir() or not any(project.raw.iterdir()):
        raise DataError(f"{project.raw}: no recordings; put them there, or use `pipe add`")
    with exclusive_params(project):
        chosen = {row: recipe.rows[row] for row in rows or recipe.rows}
        plan = _plan(name, recipe, chosen, seeds, project, small=small)
        if jobs > 1:
            ran, failed = _run_several_at_a_time(name, plan, jobs, project)
        else:
            with borrowed_params(project, [planned.params_text for planned in plan]):
                ran, failed = _run_all(name, plan, project)
    if failed:
        reasons = "; ".join(f"{experiment}: {reason}" for experiment, reason in failed.items())
        raise PipeError(f"study {name}: {len(failed)} of {len(plan)} runs failed: {reasons}")
    last_run = ran[-1] if ran and jobs == 1 else None
    return StudyReport(name_of_runs(name, small=small), len(ran), len(plan) - len(ran), last_run)


def experiment_names(study_name: str, rows: Sequence[str]) -> dict[str, str]:
    """Give each row of a study a name that git allows. No two rows share a name, with or without a seed.

    Characters that git or a shell refuses become `-`. A digest follows where the name could belong to another row.
    """
    slugs = {row: re.sub(r"[\W_]+", "-", unicodedata.normalize("NFC", row)).strip("-") for row in rows}
    folded = [slug.casefold() for slug in slugs.values()]  # some file systems ignore case
    names = {}
    for row, slug in slugs.items():
        is_unique = folded.count(slug.casefold()) == 1 and len(slug) <= _LONGEST_SLUG
        names[row] = f"{study_name}-{slug}"
        if not slug or not is_unique or re.search(r"(^|-)s\d+$", slug) or "-" in study_name:
            digest = hashlib.sha256(f"{study_name}/{row}".encode()).hexdigest()[:8]
            names[row] = "-".join(part for part in (study_name, slug[:_LONGEST_SLUG], digest) if part)
    return names


def is_run_of(experiment: str, name: str) -> bool:
    """Whether an experiment is a run of the row with this name, with or without a seed of `--seeds`."""
    return re.fullmatch(re.escape(name) + r"(-s\d+)?", experiment) is not None


def _plan(
    name: str, recipe: Study, rows: Mapping[str, Mapping[str, Any]], seeds: int, project: Project, *, small: bool
) -> list[PlannedRun]:
    """Compose and check all runs before the first one starts: an error in the last row must not show after hours."""
    read_params(project.params_yaml)
    own = project.params_yaml.read_text(encoding="utf-8")
    path = find_recipe(name, project)
    names = experiment_names(name_of_runs(name, small=small), list(recipe.rows))
    overlay = small_study(recipe.params, own, path, project) if small else None
    plan = []
    for row, values in rows.items():
        of_row: list[Mapping[str, Any]] = [recipe.params, values]
        if overlay:
            of_row = overlay.over(of_row, own, path)
        for seed in range(seeds):
            layers, experiment = list(of_row), names[row]
            if seeds > 1:
                layers.append({"train": {"seed": seed}})
                experiment += f"-s{seed}"
            text, changed = compose(own, layers, path)
            plan.append(PlannedRun(experiment, text, tuple(changed)))
    return plan


def _run_all(name: str, plan: Sequence[PlannedRun], project: Project) -> tuple[list[str], dict[str, str]]:
    """Run the planned runs that have not run yet, one after the other in the workspace.

    Returns:
        The experiments that were run, and the reasons of those that failed, by experiment.
    """
    ran, failed = list[str](), dict[str, str]()
    for index, planned in enumerate(plan, start=1):
        say = _saying(name, index, plan)
        if _is_done(planned, project):
            say(_KEPT)
            continue
        say(planned.what_changes)
        started = time.monotonic()
        reason = _run(planned, project)
        say(f"failed: {reason}" if reason else f"done in {time.monotonic() - started:.0f} s")
        if reason:
            failed[planned.experiment] = reason
        ran.append(planned.experiment)
    return ran, failed


def _run_several_at_a_time(
    name: str, plan: Sequence[PlannedRun], jobs: int, project: Project
) -> tuple[list[str], dict[str, str]]:
    """The same as `_run_all`, in copies of the workspace."""
    left = list[tuple[int, PlannedRun]]()
    for index, planned in enumerate(plan, start=1):
        if _is_done(planned, project):
            _saying(name, index, plan)(_KEPT)
        else:
            left.append((index, planned))
    failed = run_in_copies(f"study {name}", left, jobs, project, len(plan)) if left else {}
    return [planned.experiment for _, planned in left], failed


def _saying(name: str, index: int, plan: Sequence[PlannedRun]) -> Callable[[str], None]:
    """A function that prints a line about a planned run."""
    begin = f"study {name}: {index}/{len(plan)} {plan[index - 1].experiment}:"
    return functools.partial(Console(stderr=True).print, begin, **_PLAIN)


def _is_done(planned: PlannedRun, project: Project) -> bool:
    """Whether the experiment exists, with the same params, data and code."""
    experiment = list_experiments(project).get(planned.experiment)
    if experiment is None or experiment.fault():
        return False
    if experiment.params != parse_yaml(planned.params_text):
        return False
    present = workspace_sources(project)
    ran = source_digests(experiment.stages)
    return bool(present) and without_kept_places(ran, experiment) == without_kept_places(present, experiment)


def without_kept_places(sources: Mapping[str, str], experiment: Experiment) -> dict[str, str]:
    """Leave `data/split.keep.csv` out of the digests where the params of the run do not use it."""
    kept = experiment.project.relative(experiment.project.split_keep_csv)
    is_unused = param_value(experiment.params, "split.keep") is False
    return {path: digest for path, digest in sources.items() if path != kept or not is_unused}


def _run(planned: PlannedRun, project: Project) -> str | None:
    """Run one experiment in the workspace; give the reason of its failure, or None.

    DVC's run cache does not serve stages whose reports are in git, so `_is_done` recognises runs instead. DVC's
    `--force` would run every stage again, so an older experiment of this name is removed instead.
    """
    remove_experiments(planned.experiment, project)
    planned.write_params(project)
    with dvc_experiment(planned.experiment, project, _environment()) as process:
        try:
            output = _forward_output(process)
            code = process.wait()
        except KeyboardInterrupt:
            signal_group(process, "SIGINT")
            _forward_output(process)
            raise
    return reason_of_failure(output) if code else None


def _forward_output(process: subprocess.Popen[bytes]) -> str:
    """Copy the process's output to standard error as it comes; give the end of the output."""
    tail = b""
    while chunk := os.read(process.stdout.fileno(), TAIL_BYTES) if process.stdout else b"":
        sys.stderr.buffer.write(chunk)
        sys.stderr.buffer.flush()
        tail = (tail + chunk)[-TAIL_BYTES:]
    return tail.decode("utf-8", errors="replace")


def _environment() -> dict[str, str]:
    """Let `python` and `pipe` in dvc.yaml be those of this Python; on a terminal, let stages draw their progress."""
    terminal = {"TTY_COMPATIBLE": "1", "COLUMNS": str(shutil.get_terminal_size().columns)}
    return environment_with_own_programs() | (terminal if sys.stderr.isatty() else {})
