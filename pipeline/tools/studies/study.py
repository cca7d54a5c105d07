"""A study: every row of a recipe as a DVC experiment, one after the other, up to `evaluate`.

They run in the workspace, so that they share the frames, the split and the caches; `params.yaml` is lent to each of
them, and is afterwards as it was.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.base.errors import DataError, PipeError
from pipeline.base.files import replacing_file
from pipeline.base.project import Project
from pipeline.params import read_params
from pipeline.tools.studies import dvc_experiments
from pipeline.tools.studies.borrowed_params import alone_with_params, lending_params
from pipeline.tools.studies.recipe import compose, find_recipe, read_study
from pipeline.tools.studies.recipe_schema import Study, refuse_unknown

_LONGEST_SLUG = 60  # letters: git keeps a name in a file name
_TAIL_BYTES = 1 << 16  # the reason of a failure stands in the last lines
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours and cursor movements of progress bars
_PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}


@dataclass(frozen=True)
class PlannedRun:
    """A row, with one seed."""

    experiment: str
    params_text: str  # the whole params.yaml
    differs: tuple[str, ...]  # dotted names: where it is not the project's own params.yaml


@dataclass(frozen=True)
class StudyReport:
    """What ran."""

    name: str
    n_run: int
    n_kept: int

    @property
    def headline(self) -> str:
        """The closing line."""
        kept = f", {self.n_kept} kept" if self.n_kept else ""
        return f"study {self.name}: {self.n_run} experiments run{kept}"


def study(name: str, rows: Sequence[str], seeds: int, project: Project) -> StudyReport:
    """Run the rows of a recipe, or only those named, each with `seeds` seeds; those that fail do not stop the others.

    A run whose experiment exists with the same params, data and code is kept.

    Raises:
        ParamsError: there is no such recipe or row, or one does not hold together; then nothing has run.
        DataError: no git repository, no commit, no recordings, or another study runs here.
        PipeError: some runs failed; each is named with its reason.
    """
    recipe = read_study(name, project)
    for row in rows:
        if row not in recipe.rows:
            refuse_unknown(row, list(recipe.rows), f"{find_recipe(name, project)}: rows")
    dvc_experiments.check_repository(project)
    if not project.raw.is_dir() or not any(project.raw.iterdir()):
        raise DataError(f"{project.raw}: no recordings; put them there, or use `pipe add`")
    with alone_with_params(project):
        plan = _plan(name, recipe, list(dict.fromkeys(rows or recipe.rows)), seeds, project)
        with lending_params(project, [planned.params_text for planned in plan]):
            n_kept, failed = _run_all(name, plan, project)
    if failed:
        reasons = "; ".join(f"{experiment}: {reason}" for experiment, reason in failed.items())
        raise PipeError(f"study {name}: {len(failed)} of {len(plan)} runs failed: {reasons}")
    return StudyReport(name, len(plan) - n_kept, n_kept)


def experiment_names(study_name: str, rows: Sequence[str]) -> dict[str, str]:
    """A name that git allows for each of a study's rows; no two rows have the same, seeds included.

    What git or a shell would not take becomes `-`; where that alone could be read as another row's, a digest follows.
    """
    slugs = {row: re.sub(r"[\W_]+", "-", unicodedata.normalize("NFC", row)).strip("-") for row in rows}
    folded = [slug.casefold() for slug in slugs.values()]  # some file systems do not tell A from a
    names = {}
    for row, slug in slugs.items():
        alone = folded.count(slug.casefold()) == 1 and len(slug) <= _LONGEST_SLUG
        names[row] = f"{study_name}-{slug}"
        if not slug or not alone or re.search(r"(^|-)s\d+$", slug) or "-" in study_name:
            digest = hashlib.sha256(f"{study_name}/{row}".encode()).hexdigest()[:8]
            names[row] = "-".join(part for part in (study_name, slug[:_LONGEST_SLUG], digest) if part)
    return names


def is_run_of(experiment: str, name: str) -> bool:
    """Whether an experiment is the row of this name, with its own seed or one that the study gave it."""
    return re.fullmatch(re.escape(name) + r"(-s\d+)?", experiment) is not None


def _plan(name: str, recipe: Study, rows: Sequence[str], seeds: int, project: Project) -> list[PlannedRun]:
    """All that will run, checked before the first of it: a row with a slip must not come to light after hours."""
    read_params(project.params_yaml)
    own = project.params_yaml.read_text(encoding="utf-8")
    path = find_recipe(name, project)
    names = experiment_names(name, list(recipe.rows))
    plan = []
    for row in rows:
        for seed in range(seeds):
            layers: list[Mapping[str, Any]] = [recipe.params, recipe.rows[row]]
            experiment = names[row]
            if seeds > 1:
                layers.append({"train": {"seed": seed}})
                experiment += f"-s{seed}"
            text, differs = compose(own, layers, path)
            plan.append(PlannedRun(experiment, text, tuple(differs)))
    return plan


def _run_all(name: str, plan: Sequence[PlannedRun], project: Project) -> tuple[int, dict[str, str]]:
    """Run what has not run yet; gives how many were kept, and by experiment the reasons of those that failed."""
    console = Console(stderr=True)
    n_kept, failed = 0, {}
    for number, planned in enumerate(plan, start=1):
        say = functools.partial(console.print, f"study {name}: {number}/{len(plan)} {planned.experiment}:", **_PLAIN)
        if _is_done(planned, project):
            say("kept; it ran with the same params, data and code")
            n_kept += 1
            continue
        say(", ".join(planned.differs) or "as params.yaml")
        started = time.monotonic()
        reason = _run(planned, project)
        say(f"failed: {reason}" if reason else f"done in {time.monotonic() - started:.0f} s")
        if reason:
            failed[planned.experiment] = reason
    return n_kept, failed


def _is_done(planned: PlannedRun, project: Project) -> bool:
    """Whether the experiment is there and would come out the same: same params, same data, same code."""
    experiment = dvc_experiments.list_experiments(project).get(planned.experiment)
    if experiment is None or experiment.fault():
        return False
    if experiment.params != dvc_experiments.parse_yaml(planned.params_text):
        return False
    present = _present_sources(project)
    return bool(present) and dvc_experiments.sources(experiment.stages) == present


def _present_sources(project: Project) -> dict[str, str]:
    """Digests of the workspace's data and code as `dvc.lock` has them; empty where that is not what lies there."""
    if not project.dvc_lock.is_file():
        return {}
    command = [sys.executable, "-m", "dvc", "status", "--json", "--with-deps", dvc_experiments.LAST_STAGE]
    finished = subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise DataError(f"dvc status: {_reason(finished.stderr)}")
    stages = dvc_experiments.chain(dvc_experiments.parse_yaml(project.dvc_lock.read_text(encoding="utf-8")))
    present = dvc_experiments.sources(stages)
    altered = {
        path
        for changes in json.loads(finished.stdout).values()
        for change in changes
        if isinstance(change, dict)
        for path in change.get("changed deps", {})
    }
    return {} if altered & present.keys() else present


def _run(planned: PlannedRun, project: Project) -> str | None:
    """Run one experiment; gives the reason of its failure, or None.

    DVC's run cache does not serve stages whose reports are in git, so what has run before is recognised by `_is_done`;
    and DVC's `--force` would run every stage again, so an older run of the name is removed instead.
    """
    dvc_experiments.remove_experiments(planned.experiment, project)
    with replacing_file(project.params_yaml) as temporary:
        temporary.write_text(planned.params_text, encoding="utf-8", newline="\n")
    command = [sys.executable, "-m", "dvc", "exp", "run", "--name", planned.experiment, dvc_experiments.LAST_STAGE]
    # In a process group of its own: Ctrl-C comes to us alone, and goes once to DVC and all that it started.
    process = subprocess.Popen(
        command,
        cwd=project.root,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
    )
    with process, _ending_with_us(process):
        said = _passed_on(process)
        code = process.wait()
    return _reason(said) if code else None


@contextlib.contextmanager
def _ending_with_us(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """An interrupt goes to the whole group, and is raised when it has ended."""
    try:
        yield
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGINT)
        _passed_on(process)
        raise
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _passed_on(process: subprocess.Popen[bytes]) -> str:
    """Everything that the process prints goes to standard error as it comes; gives the last of it."""
    said = b""
    while chunk := os.read(process.stdout.fileno(), _TAIL_BYTES) if process.stdout else b"":
        sys.stderr.buffer.write(chunk)
        sys.stderr.buffer.flush()
        said = (said + chunk)[-_TAIL_BYTES:]
    return said.decode("utf-8", errors="replace")


def _environment() -> dict[str, str]:
    """`python` in dvc.yaml is the Python that runs us; and where we end on a terminal, stages draw their progress."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    terminal = {"TTY_COMPATIBLE": "1", "COLUMNS": str(shutil.get_terminal_size().columns)}
    return os.environ | {"PATH": path} | (terminal if sys.stderr.isatty() else {})


def _reason(said: str) -> str:
    """The one line of the stage that failed, else DVC's own last word."""
    lines = [line.strip() for line in _CONTROL.sub("", said).splitlines() if line.strip()]
    of_stage = [line.removeprefix("pipe: ") for line in lines if line.startswith("pipe: ")]
    of_dvc = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (of_stage or of_dvc or lines or ["no reason was printed"])[-1]
